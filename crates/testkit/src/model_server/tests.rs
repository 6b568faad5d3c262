use super::*;

fn turn(session: &str, step: usize, attempt: usize) -> Turn {
    Turn { number: 99, session: Some(session.to_owned()), step, attempt, body: json!({}) }
}

#[test]
fn faults_depend_on_the_request_and_not_on_the_order() {
    let plan = FaultPlan {
        chances: vec![(0.2, Misbehaviour::Reset), (0.1, Misbehaviour::Garbage)],
        seed: 7,
        ..FaultPlan::default()
    };
    let turns: Vec<_> = (0..1_000).map(|number| turn(&format!("s{}", number % 50), number / 50, 0)).collect();
    let drawn: Vec<_> = turns.iter().map(|turn| plan.draw(turn)).collect();
    let again: Vec<_> = turns.iter().rev().map(|turn| plan.draw(turn)).collect();
    assert!(drawn.iter().eq(again.iter().rev()));
    let count = |wanted: Option<Misbehaviour>| drawn.iter().filter(|drawn| **drawn == wanted).count();
    assert!((140..260).contains(&count(Some(Misbehaviour::Reset))));
    assert!((60..140).contains(&count(Some(Misbehaviour::Garbage))));
    let other = FaultPlan { seed: 8, ..plan.clone() };
    assert!(turns.iter().any(|turn| other.draw(turn) != plan.draw(turn)));
    assert!((0..50).any(|attempt| plan.draw(&turn("s", 0, attempt)).is_none()));
}

#[test]
fn latencies_stay_within_their_bounds() {
    let plan = FaultPlan::default();
    let bounds = (Duration::from_millis(10), Duration::from_millis(30));
    let waits: Vec<_> = (0..200).map(|step| plan.latency(bounds, &turn("s", step, 0))).collect();
    assert!(waits.iter().all(|wait| (bounds.0..bounds.1).contains(wait)));
    assert!(waits.iter().any(|wait| *wait < Duration::from_millis(15)));
    assert!(waits.iter().any(|wait| *wait > Duration::from_millis(25)));
    assert_eq!(plan.latency((Duration::ZERO, Duration::ZERO), &turn("s", 0, 0)), Duration::ZERO);
}

#[test]
fn a_table_answers_by_marker_and_step() {
    let table = ScriptTable::default()
        .row("task-a", [Reply::text("a0"), Reply::text("a1")])
        .row("task", [Reply::text("t0")]);
    let at = |task: &str, step: usize| {
        let messages = json!([{ "role": "user", "content": task }]);
        let turn = Turn { body: json!({ "messages": messages }), ..turn("s", step, 0) };
        let answer = table.answer(&turn);
        (answer.reply.content, answer.misbehaviour.is_some())
    };
    assert_eq!(at("this is task-a", 0), ("a0".into(), false));
    assert_eq!(at("this is task-a", 7), ("a1".into(), false));
    assert_eq!(at("this is task-b", 1), ("t0".into(), false));
    assert!(at("another", 0).1);
}
