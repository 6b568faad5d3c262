//! Every branch of the protocol's registers: claims, take-over, operators, budget.

use std::sync::Arc;

use thresher_core::{RolloutId, ShardId};
use thresher_ledger::{
    Amount, Claim, Claiming, DoneCounts, Drawn, Heartbeat, InFlight, Incarnation, Ledger, LedgerError,
    Limits, PROTOCOL, Release, RunState, Standing, UnpackedCounts, Wish, WorkerState,
};
use thresher_store::{Memory, ObjectPath, ObjectStore as _, PutMode};

use crate::hooked::{Trouble, plain, troubled};

const CLAIM: &str = "claims/";

fn shard() -> ShardId {
    ShardId::new("shard")
}

fn store() -> Arc<Memory> {
    Arc::new(Memory::new())
}

fn held(claiming: Claiming) -> Claim {
    match claiming {
        Claiming::Held(claim) => claim,
        other => panic!("{other:?}"),
    }
}

async fn claim(ledger: &Ledger, by: &Incarnation, round: u32) -> Claiming {
    ledger.claim(&shard(), by, round).await.unwrap()
}

fn beat(of: &Incarnation, in_flight: &[&str]) -> Heartbeat {
    let attempt = |rollout: &&str| InFlight {
        shard: shard(),
        rollout: RolloutId::new(*rollout),
        attempt: 1,
        nonce: format!("{rollout}-{of}"),
    };
    Heartbeat {
        protocol: PROTOCOL,
        incarnation: of.clone(),
        sequence: 1,
        round: 1,
        state: WorkerState::Working,
        host: "host".into(),
        slots: 2,
        shards: vec![shard()],
        in_flight: in_flight.iter().map(attempt).collect(),
        unpacked: UnpackedCounts::default(),
        done: DoneCounts::default(),
        spent: Amount::default(),
        images: thresher_core::ImageCounts::default(),
    }
}

#[tokio::test]
async fn c2_the_first_creator_holds_and_others_see_whose_it_is() {
    let ledger = plain(&store());
    let (a, b) = (ledger.incarnation(), ledger.incarnation());
    let first = held(claim(&ledger, &a, 1).await);
    assert_eq!((first.epoch(), first.standing()), (1, &Standing::Held(a.clone())));
    let Claiming::Taken(seen) = claim(&ledger, &b, 1).await else { panic!() };
    assert_eq!(seen.standing(), &Standing::Held(a.clone()));
    assert_eq!(held(claim(&ledger, &a, 1).await), first, "its own claim is its own");
}

#[tokio::test]
async fn w1_a_lost_acknowledgement_is_recognized_by_the_nonce() {
    let shared = store();
    let ledger = troubled(&shared, CLAIM, Trouble::LostAcknowledgement);
    let a = ledger.incarnation();
    let created = held(claim(&ledger, &a, 1).await);
    let again = troubled(&shared, CLAIM, Trouble::LostAcknowledgement);
    let Release::Done(released) = again.release(&created).await.unwrap() else { panic!() };
    assert_eq!(released.standing(), &Standing::Released);
}

#[tokio::test]
async fn w1_another_writer_with_the_same_content_is_not_taken_for_oneself() {
    let shared = store();
    let ledger = plain(&shared);
    let a = ledger.incarnation();
    let before = held(claim(&ledger, &a, 1).await);
    // A release like ours, written by somebody else in between.
    let (other, theirs) = (plain(&shared), before.clone());
    let act = Trouble::before(move || async move {
        assert!(matches!(other.release(&theirs).await.unwrap(), Release::Done(_)));
    });
    let late = troubled(&shared, CLAIM, act);
    assert_eq!(late.release(&before).await.unwrap(), Release::Fenced);
}

#[tokio::test]
async fn c3_given_back_shards_go_on_under_the_next_epoch() {
    let ledger = plain(&store());
    let (a, b) = (ledger.incarnation(), ledger.incarnation());
    let first = held(claim(&ledger, &a, 1).await);
    ledger.release(&first).await.unwrap();
    let second = held(claim(&ledger, &b, 1).await);
    assert_eq!(second.epoch(), 2);
    assert!(!ledger.still_held(&first).await.unwrap() && ledger.still_held(&second).await.unwrap());
    ledger.finish(&second, 1, 2).await.unwrap();
    assert!(matches!(claim(&ledger, &a, 1).await, Claiming::Finished(_)), "C4: finished in this round");
    let third = held(claim(&ledger, &a, 2).await);
    assert_eq!(third.epoch(), 3);
    ledger.finish(&third, 2, 0).await.unwrap();
    assert!(matches!(claim(&ledger, &b, 9).await, Claiming::Finished(_)), "nothing is open");
}

#[tokio::test]
async fn c3_of_two_that_go_for_a_released_shard_one_gets_it() {
    let shared = store();
    let ledger = plain(&shared);
    let (a, b) = (ledger.incarnation(), ledger.incarnation());
    ledger.release(&held(claim(&ledger, &a, 1).await)).await.unwrap();
    let seen = ledger.read_claim(&shard()).await.unwrap().unwrap();
    let (rival, rivals) = (plain(&shared), b.clone());
    let act = Trouble::before(move || async move {
        held(rival.claim(&shard(), &rivals, 1).await.unwrap());
    });
    let Claiming::Taken(theirs) = troubled(&shared, CLAIM, act).claim_seen(seen, &a, 1).await.unwrap() else {
        panic!()
    };
    assert_eq!(theirs.standing(), &Standing::Held(b));
}

#[tokio::test]
async fn t2_a_take_over_fences_the_holder_and_keeps_what_was_in_flight() {
    let shared = store();
    let ledger = plain(&shared);
    let [a, b, c] = [ledger.incarnation(), ledger.incarnation(), ledger.incarnation()];
    let first = held(claim(&ledger, &a, 1).await);
    let lost = beat(&a, &["r1", "r2"]).lost_in(&shard());
    let second = held(ledger.take_over(&first, &lost, &b).await.unwrap());
    assert_eq!((second.epoch(), second.lost().len()), (2, 2));
    assert!(!ledger.still_held(&first).await.unwrap());
    assert_eq!(ledger.finish(&first, 1, 0).await.unwrap(), Release::Fenced, "C5");
    // The next one to take it over adds to the list; what it knows already is not added twice.
    let lost: Vec<_> =
        [beat(&a, &["r1"]), beat(&b, &["r1"])].iter().flat_map(|of| of.lost_in(&shard())).collect();
    let third = held(ledger.take_over(&second, &lost, &c).await.unwrap());
    assert_eq!(third.lost().len(), 3);
    assert_eq!(third.workers_lost_by(&RolloutId::new("r1"), 1), 2);
    assert_eq!(third.workers_lost_by(&RolloutId::new("r1"), 2), 0, "T6: another round");
}

#[tokio::test]
async fn t2_the_holder_who_comes_back_in_between_keeps_or_ends_it() {
    let shared = store();
    let ledger = plain(&shared);
    let (a, b) = (ledger.incarnation(), ledger.incarnation());
    let seen = held(claim(&ledger, &a, 1).await);
    let (back, theirs) = (plain(&shared), seen.clone());
    let act = Trouble::before(move || async move {
        back.finish(&theirs, 1, 0).await.unwrap();
    });
    let taken = troubled(&shared, CLAIM, act).take_over(&seen, &[], &b).await.unwrap();
    assert!(matches!(taken, Claiming::Finished(_)), "{taken:?}");
}

#[tokio::test]
async fn h1_and_h5_a_heartbeat_changes_with_each_beat_and_goes_at_the_end() {
    let ledger = plain(&store());
    let a = ledger.incarnation();
    assert_eq!(ledger.heartbeat(&a).await.unwrap(), None);
    let mut heartbeat = beat(&a, &[]);
    ledger.beat(&heartbeat).await.unwrap();
    let before = ledger.workers().await.unwrap();
    heartbeat.sequence += 1;
    ledger.beat(&heartbeat).await.unwrap();
    let after = ledger.workers().await.unwrap();
    assert_eq!((before[0].0.clone(), after.len()), (a.clone(), 1));
    assert_ne!(before[0].1, after[0].1);
    assert_eq!(ledger.heartbeats().await.unwrap(), [heartbeat]);
    for _ in 0..2 {
        ledger.clear_heartbeat(&a).await.unwrap();
    }
    assert_eq!(ledger.workers().await.unwrap(), []);
}

#[tokio::test]
async fn o1_and_o2_operators_change_what_the_others_changed_meanwhile() {
    let shared = store();
    let ledger = plain(&shared);
    assert_eq!(ledger.control().await.unwrap().round, 1);
    let other = plain(&shared);
    let act = Trouble::before(move || async move {
        other.change_control(|control| control.round += 1).await.unwrap();
    });
    let late = troubled(&shared, "control", act);
    let control = late.change_control(|control| control.state = RunState::Paused).await.unwrap();
    assert_eq!((control.round, control.state), (2, RunState::Paused));
    assert_eq!(ledger.control().await.unwrap(), control);
}

fn one_dollar() -> Wish {
    let usd = |usd: u64| Amount { micro_usd: usd * 1_000_000, ..Amount::default() };
    let limits = Limits { micro_usd: Some(5_000_000), ..Limits::default() };
    Wish { limits, keep: usd(0), need: usd(1), want: usd(3) }
}

async fn draw(ledger: &Ledger, by: &Incarnation) -> u64 {
    let before = || async { Ok(Amount { micro_usd: 1_000_000, ..Amount::default() }) };
    match ledger.draw(by, Amount::default(), &one_dollar(), before).await.unwrap() {
        Drawn::Granted(granted) => granted.micro_usd / 1_000_000,
        _ => 0,
    }
}

#[tokio::test]
async fn b1_and_b2_two_that_draw_at_once_stay_within_the_limit() {
    let shared = store();
    let ledger = plain(&shared);
    let (a, b) = (ledger.incarnation(), ledger.incarnation());
    let (rival, rivals) = (plain(&shared), b.clone());
    let act = Trouble::before(move || async move {
        assert_eq!(draw(&rival, &rivals).await, 3);
    });
    assert_eq!(draw(&troubled(&shared, "budget", act), &a).await, 1, "of 5, 1 was spent and 3 drawn");
    let (spent, reserved) = ledger.budget_use().await.unwrap().unwrap();
    assert_eq!((spent.micro_usd, reserved.micro_usd), (1_000_000, 4_000_000));
    ledger.return_tranche(&b, Amount::default()).await.unwrap();
    ledger.close_tranche(&a, Amount { micro_usd: 900_000, ..Amount::default() }).await.unwrap();
    let (spent, reserved) = ledger.budget_use().await.unwrap().unwrap();
    assert_eq!((spent.micro_usd, reserved.micro_usd), (1_900_000, 0), "B4 and B5");
}

#[tokio::test]
async fn b2_a_lost_acknowledgement_draws_once() {
    let shared = store();
    let a = plain(&shared).incarnation();
    let again = troubled(&shared, "budget", Trouble::LostAcknowledgement);
    assert_eq!(draw(&again, &a).await, 3);
    assert_eq!(again.budget_use().await.unwrap().unwrap().1.micro_usd, 3_000_000);
}

#[tokio::test]
async fn another_protocol_is_refused_by_name() {
    let shared = store();
    let path = ObjectPath::parse("claims/shard.json").unwrap();
    let body = br#"{"format": 1, "body": {"protocol": 9, "anything": "else"}}"#;
    shared.put(&path, body.as_slice().into(), PutMode::Create).await.unwrap();
    let error = plain(&shared).read_claim(&shard()).await.unwrap_err();
    assert!(matches!(error, LedgerError::OtherProtocol { found: 9, .. }), "{error}");
    assert!(error.to_string().contains("protocol 9 and this program speaks 1"), "{error}");
}
