//! Two ends and everything that may happen between them: cuts at every byte, forgeries, strangers.

use super::*;

const KEY: [u8; 32] = [9; 32];

/// A reproducible source of numbers.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % most as u64).unwrap()
    }

    fn nonce(&mut self) -> [u8; NONCE] {
        let (one, two) = (self.next().to_le_bytes(), self.next().to_le_bytes());
        [one, two].concat().try_into().unwrap()
    }
}

/// A connection as one side sees it.
enum Side {
    Visiting(Visitor),
    Knocking(Knock),
    Joined(Session),
}

/// Runner and guest with the bytes that are under way between them.
struct World {
    numbers: Numbers,
    door: Door,
    guest: Stream,
    runner: Stream,
    first: bool,
    at_guest: Side,
    at_runner: Side,
    /// Under way to the guest, and to the runner.
    wires: [Vec<u8>; 2],
    got: [Vec<u8>; 2],
    connections: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let key = Key::new(KEY);
        let mut numbers = Numbers(seed | 1);
        let door = Door::new(key.hash());
        let (visitor, challenge) = door.knocked(numbers.nonce());
        Self {
            at_runner: Side::Knocking(Knock::new(key, numbers.nonce(), true)),
            numbers,
            door,
            guest: Stream::default(),
            runner: Stream::default(),
            first: true,
            at_guest: Side::Visiting(visitor),
            wires: [Vec::new(), challenge],
            got: [Vec::new(), Vec::new()],
            connections: 1,
        }
    }

    /// Everything under way is lost, and a new connection begins.
    fn cut(&mut self) {
        let (visitor, challenge) = self.door.knocked(self.numbers.nonce());
        self.at_guest = Side::Visiting(visitor);
        self.at_runner = Side::Knocking(Knock::new(Key::new(KEY), self.numbers.nonce(), self.first));
        self.wires = [Vec::new(), challenge];
        self.connections += 1;
    }

    /// Gives the guest the first `count` bytes that are under way to it.
    fn guest_hears(&mut self, count: usize) {
        let count = count.min(self.wires[0].len());
        let bytes: Vec<u8> = self.wires[0].drain(..count).collect();
        match &mut self.at_guest {
            Side::Visiting(visitor) => {
                if let Some(mut session) = self.door.hear(visitor, &bytes, &mut self.guest).unwrap() {
                    session.push(&[], &mut self.guest).unwrap();
                    self.at_guest = Side::Joined(session);
                }
            }
            Side::Joined(session) => session.push(&bytes, &mut self.guest).unwrap(),
            Side::Knocking(_) => unreachable!(),
        }
    }

    fn runner_hears(&mut self, count: usize) {
        let count = count.min(self.wires[1].len());
        let bytes: Vec<u8> = self.wires[1].drain(..count).collect();
        match &mut self.at_runner {
            Side::Knocking(knock) => {
                let joined = knock.hear(&bytes, &mut self.runner, &mut self.wires[0]).unwrap();
                if let Some(mut session) = joined {
                    session.push(&[], &mut self.runner).unwrap();
                    self.first = false;
                    self.at_runner = Side::Joined(session);
                }
            }
            Side::Joined(session) => session.push(&bytes, &mut self.runner).unwrap(),
            Side::Visiting(_) => unreachable!(),
        }
    }

    /// Puts up to `count` bytes of each side on its wire.
    fn send(&mut self, count: usize) {
        if let Side::Joined(session) = &mut self.at_runner {
            put(session, &mut self.runner, &mut self.wires[0], count);
        }
        if let Side::Joined(session) = &mut self.at_guest {
            put(session, &mut self.guest, &mut self.wires[1], count);
        }
    }

    fn take(&mut self, count: usize) {
        let [to_guest, to_runner] = &mut self.got;
        for (stream, got) in [(&mut self.guest, to_guest), (&mut self.runner, to_runner)] {
            let count = count.min(stream.readable().len());
            got.extend_from_slice(&stream.readable()[..count]);
            stream.take(count);
        }
    }
}

fn put(session: &mut Session, stream: &mut Stream, wire: &mut Vec<u8>, count: usize) {
    let output = session.output(stream);
    let count = count.min(output.len());
    wire.extend_from_slice(&output[..count]);
    session.sent(count);
}

fn text(length: usize, seed: u64) -> Vec<u8> {
    let mut numbers = Numbers(seed);
    (0..length).map(|_| numbers.next().to_le_bytes()[0]).collect()
}

/// Plays until both have everything; `cut_now` is asked before each step.
fn play(world: &mut World, texts: [&[u8]; 2], mut cut_now: impl FnMut(&mut World, u32) -> bool) {
    let mut written = [0, 0];
    let mut steps = 0;
    while world.got[0].len() < texts[0].len() || world.got[1].len() < texts[1].len() {
        steps += 1;
        assert!(steps < 2_000_000, "no progress");
        if cut_now(world, steps) {
            world.cut();
        }
        written[0] += world.runner.write(&texts[0][written[0]..]);
        written[1] += world.guest.write(&texts[1][written[1]..]);
        let sizes: Vec<usize> = (0..4).map(|_| [1, 7, 90, 5_000, 300_000][world.numbers.below(5)]).collect();
        world.send(sizes[0]);
        world.guest_hears(sizes[1]);
        world.runner_hears(sizes[2]);
        world.take(sizes[3]);
    }
    assert!(world.got[0] == texts[0] && world.got[1] == texts[1], "other bytes came");
}

#[test]
fn a_cut_after_every_byte_loses_nothing() {
    let texts = [text(60, 3), text(70, 5)];
    // More positions than bytes pass: the handshake, both texts and their frames.
    for at in 0..600 {
        let mut world = World::new(at + 1);
        let mut passed = 0;
        let mut cut = false;
        let mut written = [0, 0];
        while world.got[0].len() < 60 || world.got[1].len() < 70 {
            written[0] += world.runner.write(&texts[0][written[0]..]);
            written[1] += world.guest.write(&texts[1][written[1]..]);
            world.send(1);
            let side = world.numbers.below(2);
            if side == 0 {
                world.guest_hears(1)
            } else {
                world.runner_hears(1)
            }
            passed += 1;
            if passed > at && !cut {
                cut = true;
                world.cut();
            }
            world.take(1);
        }
        assert_eq!([&world.got[0], &world.got[1]], [&texts[0], &texts[1]], "cut after {at}");
        assert_eq!(world.connections, 1 + u32::from(cut));
    }
}

#[test]
fn random_cuts_lose_nothing_and_repeat_nothing() {
    for seed in 1..120 {
        let texts = [text(1 + 997 * (seed as usize % 7), seed), text(30_000 * (seed as usize % 5), seed + 1)];
        let rarely = [2, 5, 20, 100][seed as usize % 4];
        let mut world = World::new(seed * 7919);
        play(&mut world, [&texts[0], &texts[1]], |world, steps| {
            // A connection must live long enough for a handshake now and then.
            steps % 40 > 20 && world.numbers.below(rarely) == 0
        });
        assert!(world.connections > 0);
    }
}

#[test]
fn more_than_a_window_passes_with_slow_readers_and_cuts() {
    let texts = [text(3 * WINDOW + 17, 11), text(2 * WINDOW + 3, 13)];
    let mut world = World::new(77);
    play(&mut world, [&texts[0], &texts[1]], |world, steps| {
        assert!(world.runner.readable().len() <= WINDOW && world.guest.readable().len() <= WINDOW);
        steps % 25 == 24
    });
    assert!(world.connections > 5, "{}", world.connections);
}

#[test]
fn the_key_is_told_once_and_never_to_a_guest_that_forgot_it() {
    let mut world = World::new(5);
    let told = |world: &mut World| {
        world.runner_hears(1_000);
        let told = world.wires[0].windows(KEY.len()).any(|window| window == KEY);
        world.guest_hears(1_000);
        world.send(1_000);
        world.runner_hears(1_000);
        assert!(matches!(world.at_runner, Side::Joined(_)));
        told
    };
    assert!(told(&mut world));
    world.cut();
    assert!(!told(&mut world), "the guest knows it");
    let (_, challenge) = Door::new(Key::new(KEY).hash()).knocked([1; NONCE]);
    let mut knock = Knock::new(Key::new(KEY), [2; NONCE], false);
    let mut reply = Vec::new();
    assert_eq!(knock.hear(&challenge, &mut world.runner, &mut reply).unwrap_err(), Refused::Stranger);
    assert!(reply.is_empty());
}

#[test]
fn a_guest_that_got_the_key_while_its_answer_was_lost_is_joined_all_the_same() {
    let mut world = World::new(6);
    world.runner_hears(1_000);
    world.guest_hears(1_000);
    assert!(matches!(world.at_guest, Side::Joined(_)));
    world.cut();
    world.runner_hears(1_000);
    world.guest_hears(1_000);
    world.send(1_000);
    world.runner_hears(1_000);
    assert!(matches!(world.at_runner, Side::Joined(_)));
}

#[test]
fn strangers_are_refused_and_change_nothing() {
    let mut world = World::new(8);
    world.runner_hears(1_000);
    let proof = world.wires[0].clone();
    world.guest_hears(1_000);
    let mut stream = std::mem::take(&mut world.guest);
    for (name, said) in [
        ("zeros", vec![0; 88]),
        ("a proof for another nonce", proof.clone()),
        ("the hash for the key", [world.door_hash(), vec![0; 56]].concat()),
    ] {
        let (mut visitor, _) = world.door.knocked([3; NONCE]);
        let refused = world.door.hear(&mut visitor, &said, &mut stream).unwrap_err();
        assert_eq!(refused, Refused::Stranger, "{name}");
    }
    let mut other = Knock::new(Key::new([1; 32]), [4; NONCE], true);
    let (mut visitor, challenge) = world.door.knocked([3; NONCE]);
    let mut reply = Vec::new();
    assert!(other.hear(&challenge, &mut Stream::default(), &mut reply).unwrap().is_none());
    assert!(world.door.hear(&mut visitor, &reply, &mut stream).is_err());
    // And the other way round: a listener that does not know the key cannot pretend.
    let mut knock = Knock::new(Key::new(KEY), [5; NONCE], false);
    let pretence = [&b"thrsher1\x01"[..], &[6; NONCE], &[0; 40]].concat();
    let refused = knock.hear(&pretence, &mut Stream::default(), &mut Vec::new()).unwrap_err();
    assert_eq!(refused, Refused::Stranger);
}

impl World {
    fn door_hash(&self) -> Vec<u8> {
        let hex = Key::new(KEY).hash().to_string();
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }
}

#[test]
fn every_changed_byte_or_missing_end_ends_the_connection_and_the_next_goes_on() {
    let texts = [text(200, 21), text(0, 1)];
    for at in 0..400 {
        let mut world = World::new(at as u64 + 40);
        world.runner_hears(1_000);
        world.guest_hears(1_000);
        world.send(1_000);
        world.runner_hears(1_000);
        world.runner.write(&texts[0]);
        world.send(1_000);
        let wire = &mut world.wires[0];
        let position = at / 2;
        if position >= wire.len() {
            continue;
        }
        match at % 2 {
            0 => wire[position] ^= 0x41,
            _ => wire.truncate(wire.len() - 1 - position),
        }
        let bytes = std::mem::take(wire);
        let Side::Joined(session) = &mut world.at_guest else { unreachable!() };
        // A changed length may ask for more than there is: then nothing is believed until it comes.
        if session.push(&bytes, &mut world.guest).is_ok() && at % 2 == 0 {
            assert!(session.push(&[0; 64 << 10], &mut world.guest).is_err(), "byte {position}");
        }
        world.cut();
        play_on(&mut world, &texts[0]);
    }
}

/// What was written comes whole on a new connection.
fn play_on(world: &mut World, expected: &[u8]) {
    while world.got[0].len() < expected.len() {
        world.send(1_000);
        world.guest_hears(1_000);
        world.runner_hears(1_000);
        world.take(1_000);
    }
    assert_eq!(world.got[0], expected);
}

#[test]
fn pings_are_answered_and_an_end_is_told() {
    let mut world = World::new(9);
    world.runner_hears(1_000);
    world.guest_hears(1_000);
    world.send(1_000);
    world.runner_hears(1_000);
    let Side::Joined(runner) = &mut world.at_runner else { unreachable!() };
    let before = runner.heard();
    runner.ping();
    runner.close();
    for _ in 0..2 {
        world.send(1_000);
        world.guest_hears(1_000);
        world.runner_hears(1_000);
    }
    let (Side::Joined(runner), Side::Joined(guest)) = (&world.at_runner, &world.at_guest) else {
        unreachable!()
    };
    assert!(runner.heard() > before && guest.is_closed() && !runner.is_closed());
    assert!(!guest.has_output(&world.guest) && !runner.has_output(&world.runner));
}
