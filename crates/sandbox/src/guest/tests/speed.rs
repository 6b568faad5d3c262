//! What a command costs over its fork and exec: printed for people, since times are no assertions.

use std::process::Command as Std;
use std::time::Instant;

use super::*;

#[tokio::test]
async fn the_cost_of_a_step_is_printed() {
    const ROUNDS: usize = 200;
    let mut sandbox = plain().await;
    let command = Command { argv: vec!["/bin/true".into()], ..bash("") };
    let mut steps = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let ended = sandbox.run(&command).await.unwrap();
        steps.push(begun.elapsed());
        assert_eq!(ended.end, CommandEnd::Exited(0));
    }
    let mut plain = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        Std::new("/bin/true").output().unwrap();
        plain.push(begun.elapsed());
    }
    steps.sort_unstable();
    plain.sort_unstable();
    println!("median of a step {:?}, of a plain fork and exec {:?}", steps[ROUNDS / 2], plain[ROUNDS / 2]);
}
