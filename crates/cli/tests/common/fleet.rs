//! Runs that several workers share.

use super::{Home, Thresher, isolated, jobs};

/// Writes the quickstart as a job whose workers watch each other in seconds.
pub(crate) fn fleet_job(home: &Home, samples: u32) -> String {
    let quickstart = std::fs::read_to_string(jobs().join("quickstart.yaml")).unwrap();
    let folder = jobs().canonicalize().unwrap().join("quickstart");
    let text = quickstart
        .replace("quickstart/tasks.jsonl", &folder.join("tasks.jsonl").display().to_string())
        .replace("quickstart/replies.jsonl", &folder.join("replies.jsonl").display().to_string())
        .replace("samples: 2", &format!("samples: {samples}"));
    // Kills by a test are no sign of a rollout that kills its workers.
    let fleet = "fleet: {heartbeat_s: 1, take_over_s: 4, max_lost_workers: 1000}\n";
    home.write("fleet.yaml", text + fleet)
}

/// A worker on the run, with two slots, on the best backend that works here.
pub(crate) fn worker<'h>(home: &'h Home, run: &str, args: &[&str]) -> Thresher<'h> {
    let backend = if isolated() { "embedded" } else { "process" };
    let base = ["--run", run, "-n", "2", "-q", "--json", "--backend", backend];
    home.command("worker").args(base).args(args)
}
