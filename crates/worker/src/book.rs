//! What this worker knows of the run's shards, and which it tries next. Pure.

use std::collections::{BTreeSet, HashMap};

use rand::Rng;
use thresher_core::ShardId;
use thresher_core::plan::Plan;
use thresher_ledger::{Claim, Incarnation, Standing};
use thresher_store::ChangeTag;

/// Shards in the order of work.
#[derive(Debug)]
pub(crate) struct Book {
    entries: Vec<Entry>,
    at: HashMap<ShardId, usize>,
    images: Vec<Image>,
    image_of: HashMap<String, usize>,
    /// The image of the shard that was won last.
    at_hand: Option<usize>,
    /// Positions, one for each image that nobody else is at: of its first free entry.
    untouched: BTreeSet<usize>,
    /// Positions of entries that are free, of orphaned ones, and of those whose claims were not read yet.
    free: BTreeSet<usize>,
    orphans: BTreeSet<usize>,
    unread: BTreeSet<usize>,
    round: u32,
    /// From so many of the next free shards one is chosen by lot, so that workers do not all try the same one.
    spread: usize,
}

#[derive(Debug)]
struct Entry {
    shard: ShardId,
    /// Index of its image.
    image: usize,
    state: State,
    /// The claim's tag in the newest listing.
    tag: Option<ChangeTag>,
    /// Whether the claim was written since it was read.
    stale: bool,
}

/// The shards of one image.
#[derive(Debug, Default)]
struct Image {
    /// Positions of those that are free.
    free: BTreeSet<usize>,
    /// How many others have, as far as is known.
    taken: usize,
}

impl Image {
    /// The shard that stands for the image as long as nobody else is at it.
    fn first(&self) -> Option<usize> {
        self.free.first().copied().filter(|_| self.taken == 0)
    }
}

/// What is known of a shard.
#[derive(Debug)]
enum State {
    /// No claim was ever seen.
    Fresh,
    /// It has a claim that was not read yet.
    Unread,
    /// Work is left, and nobody is at it.
    Open(Claim),
    /// Another worker's.
    Taken(Claim),
    /// Another worker's, who is gone.
    Orphaned(Claim),
    Ours,
    Finished(Claim),
}

/// A shard to be tried.
#[derive(Debug, PartialEq)]
pub(crate) enum Choice {
    /// One that nobody ever claimed.
    Fresh(ShardId),
    /// One whose holder gave it back, or that has open rollouts of an earlier round.
    Open(Claim),
    /// One whose holder is gone.
    Orphaned(Claim),
}

impl Book {
    pub(crate) fn new(round: u32) -> Self {
        let (free, orphans, unread) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        Self {
            entries: Vec::new(),
            at: HashMap::new(),
            images: Vec::new(),
            image_of: HashMap::new(),
            at_hand: None,
            untouched: BTreeSet::new(),
            free,
            orphans,
            unread,
            round,
            spread: 1,
        }
    }

    /// Adds a plan's shards behind those that are known.
    pub(crate) fn extend(&mut self, plan: &Plan) {
        for shard in &plan.shards {
            self.add_of(shard.shard_id.clone(), &plan.tasks[shard.rollouts[0].task as usize].image);
        }
    }

    /// Adds what is claimed like a shard and has no image, if it is not known.
    pub(crate) fn add(&mut self, shard: ShardId) {
        self.add_of(shard, "");
    }

    fn add_of(&mut self, shard: ShardId, image: &str) {
        let next = self.entries.len();
        if *self.at.entry(shard.clone()).or_insert(next) != next {
            return;
        }
        let images = self.images.len();
        let image = *self.image_of.entry(image.to_owned()).or_insert(images);
        if image == images {
            self.images.push(Image::default());
        }
        self.entries.push(Entry { shard, image, state: State::Ours, tag: None, stale: false });
        self.set(next, State::Fresh);
    }

    /// Begins a round: shards that an earlier one left open can be claimed again.
    pub(crate) fn set_round(&mut self, round: u32) {
        self.round = round;
        for at in 0..self.entries.len() {
            if let State::Finished(claim) = &self.entries[at].state {
                let again = state(claim.clone(), round);
                self.set(at, again);
            }
        }
    }

    /// Expects about so many other workers.
    pub(crate) fn expect_rivals(&mut self, rivals: usize) {
        self.spread = rivals.clamp(1, MOST_SPREAD);
    }

    /// Takes a listing of claims: it shows which were written since, and not what they say.
    pub(crate) fn look(&mut self, listing: Vec<(ShardId, ChangeTag)>) {
        for (shard, tag) in listing {
            let Some(&at) = self.at.get(&shard) else { continue };
            let entry = &mut self.entries[at];
            let settled = matches!(entry.state, State::Ours | State::Finished(_));
            if settled || entry.tag.as_ref() == Some(&tag) {
                continue;
            }
            (entry.tag, entry.stale) = (Some(tag), true);
            if matches!(entry.state, State::Fresh) {
                self.set(at, State::Unread);
            }
        }
    }

    /// The claims that are worth reading.
    pub(crate) fn stale(&self) -> Vec<ShardId> {
        let stale = self.entries.iter().filter(|entry| entry.stale || matches!(entry.state, State::Unread));
        stale.map(|entry| entry.shard.clone()).collect()
    }

    /// Takes note of a claim that was read.
    pub(crate) fn learn(&mut self, claim: Claim) {
        if let Some(&at) = self.at.get(claim.shard()) {
            self.set(at, state(claim, self.round));
            self.entries[at].stale = false;
        }
    }

    /// Another worker was first with this claim.
    pub(crate) fn lost(&mut self, claim: Claim) {
        self.spread = (self.spread * 2).min(MOST_SPREAD);
        self.learn(claim);
    }

    /// The shard is ours now.
    pub(crate) fn won(&mut self, shard: &ShardId) {
        if let Some(&at) = self.at.get(shard) {
            self.at_hand = Some(self.entries[at].image);
            self.set(at, State::Ours);
        }
    }

    /// The shard is not ours any more, and what became of it is for the next look.
    pub(crate) fn forget(&mut self, shard: &ShardId) {
        if let Some(&at) = self.at.get(shard) {
            self.set(at, State::Unread);
            self.entries[at].tag = None;
        }
    }

    /// Counts the shards of workers that are gone as orphaned, and those of workers that came back as theirs.
    pub(crate) fn orphan(&mut self, is_gone: impl Fn(&Incarnation) -> bool) {
        for at in 0..self.entries.len() {
            let (State::Taken(claim) | State::Orphaned(claim)) = &self.entries[at].state else { continue };
            let claim = claim.clone();
            let gone = holder(&claim).is_some_and(&is_gone);
            self.set(at, if gone { State::Orphaned(claim) } else { State::Taken(claim) });
        }
    }

    /// Whether the shard was ever added.
    pub(crate) fn knows(&self, shard: &ShardId) -> bool {
        self.at.contains_key(shard)
    }

    /// Whether a known claim is held by `worker`.
    pub(crate) fn is_holder(&self, worker: &Incarnation) -> bool {
        self.entries.iter().any(|entry| match &entry.state {
            State::Taken(claim) | State::Orphaned(claim) => holder(claim) == Some(worker),
            _ => false,
        })
    }

    /// The holders of other workers' shards.
    pub(crate) fn holders(&self) -> Vec<Incarnation> {
        let taken = self.entries.iter().filter_map(|entry| match &entry.state {
            State::Taken(claim) | State::Orphaned(claim) => holder(claim).cloned(),
            _ => None,
        });
        let mut holders: Vec<Incarnation> = taken.collect();
        holders.sort();
        holders.dedup();
        holders
    }

    /// The next shard to try: first what lost workers left; then another one of the image that is at hand; then the
    /// images that nobody is at, in their order; and what is left of images that others are at only in the end, because
    /// it has to be pulled once more for that.
    pub(crate) fn choose(&self, rng: &mut impl Rng) -> Option<Choice> {
        if let Some(&at) = self.orphans.first()
            && let State::Orphaned(claim) = &self.entries[at].state
        {
            return Some(Choice::Orphaned(claim.clone()));
        }
        let at_hand = self.at_hand.and_then(|image| self.images[image].free.first().copied());
        let by_lot = if self.untouched.is_empty() { &self.free } else { &self.untouched };
        let at = match at_hand {
            Some(at) => at,
            None => *by_lot.iter().nth(below(rng, by_lot.len().min(self.spread))?)?,
        };
        Some(match &self.entries[at].state {
            State::Open(claim) => Choice::Open(claim.clone()),
            _ => Choice::Fresh(self.entries[at].shard.clone()),
        })
    }

    /// How many shards are known to be free.
    pub(crate) fn free_count(&self) -> usize {
        self.free.len()
    }

    /// Whether there are claims that were not read yet.
    pub(crate) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Whether every shard is known to be finished.
    pub(crate) fn is_finished(&self) -> bool {
        self.entries.iter().all(|entry| matches!(entry.state, State::Finished(_)))
    }

    fn set(&mut self, at: usize, state: State) {
        self.free.remove(&at);
        self.orphans.remove(&at);
        self.unread.remove(&at);
        match &state {
            State::Fresh | State::Open(_) => self.free.insert(at),
            State::Orphaned(_) => self.orphans.insert(at),
            State::Unread => self.unread.insert(at),
            _ => false,
        };
        self.touch(at, &state);
        self.entries[at].state = state;
    }

    /// Brings what is known of the image up to the new state of one of its shards.
    fn touch(&mut self, at: usize, state: &State) {
        let entry = &self.entries[at];
        let image = &mut self.images[entry.image];
        if let Some(first) = image.first() {
            self.untouched.remove(&first);
        }
        image.taken -= usize::from(is_others(&entry.state));
        image.taken += usize::from(is_others(state));
        match self.free.contains(&at) {
            true => image.free.insert(at),
            false => image.free.remove(&at),
        };
        if let Some(first) = image.first() {
            self.untouched.insert(first);
        }
    }
}

/// Wider than this, the order of work would be lost.
const MOST_SPREAD: usize = 256;

fn state(claim: Claim, round: u32) -> State {
    match claim.standing() {
        Standing::Held(_) => State::Taken(claim),
        Standing::Released => State::Open(claim),
        Standing::Finished { round: last, open } if *open > 0 && *last < round => State::Open(claim),
        Standing::Finished { .. } => State::Finished(claim),
    }
}

/// Whether another worker may be at it.
fn is_others(state: &State) -> bool {
    matches!(state, State::Unread | State::Taken(_) | State::Orphaned(_))
}

fn holder(claim: &Claim) -> Option<&Incarnation> {
    match claim.standing() {
        Standing::Held(worker) => Some(worker),
        _ => None,
    }
}

/// A number below `end` by lot; `None` if there is none.
fn below(rng: &mut impl Rng, end: usize) -> Option<usize> {
    (end > 0).then(|| (rng.next_u64() % end as u64) as usize)
}
