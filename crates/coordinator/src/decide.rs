//! What is to be done about a run's KubeJobs: a pure function of what is seen.

use thresher_ledger::RunState;

/// Progress is written to the KubeJob at most once in so many seconds.
const PROGRESS_EVERY_S: i64 = 10;

/// Everything that a decision depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The run, from its ledger.
    pub run: RunView,
    /// Its generations, in any order.
    pub jobs: Vec<FleetJob>,
    /// What is wanted.
    pub wanted: Wanted,
    /// The time, in seconds since the epoch.
    pub now_unix_s: i64,
}

/// A run as its ledger tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunView {
    /// What its operators want.
    pub state: RunState,
    /// Whether a pause ends pods that are at work.
    pub hold_now: bool,
    /// Whether a worker runs an attempt, or has not seen yet that it is to begin none.
    pub at_work: bool,
    /// The round.
    pub round: u32,
    /// Whether the round is over and sealed.
    pub over: bool,
    /// Rollouts with a result.
    pub graded: u64,
    /// Shards that are not finished; at least 1 while the run is not over. More slots would have nothing to do.
    pub shards_left: u64,
    /// How far it is, in a few words.
    pub progress: String,
}

/// A generation's KubeJob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetJob {
    /// Its number, from 1.
    pub generation: u32,
    /// Hash of the template it was made from.
    pub template: String,
    /// Worker slots that were asked for. A queue may have admitted fewer, which is the queue's to change.
    pub slots: u32,
    /// Worker slots that were wanted when it began, of which it got no more than there were shards.
    pub wanted: u32,
    /// Whether a queue admits it.
    pub queued: bool,
    /// Whether it makes no pods: by us, or by a queue that has not admitted it.
    pub suspended: bool,
    /// Whether an operator's pause holds it.
    pub held: bool,
    /// Pods that run or are being made or ended.
    pub pods: u32,
    /// Those of them that wait for a node or an image; known once the run has ended, and nothing is ready.
    pub pending: u32,
    /// Those of them that run.
    pub ready: u32,
    /// Round in which it began.
    pub round: u32,
    /// Rollouts with a result when it began.
    pub graded_before: u64,
    /// How it ended; `None` while it has not.
    pub end: Option<JobEnd>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// The progress it shows, and when that was written, in seconds since the epoch.
    pub progress: Option<(String, i64)>,
}

/// How a KubeJob ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// Every slot left by itself.
    Complete,
    /// A worker found that all of them would fail alike, and the policy of failures ended the KubeJob.
    Refused(String),
    /// Slots died too often.
    Failed(String),
}

/// What is wanted of the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Worker slots.
    pub slots: u32,
    /// Hash of the template that whoever looks makes generations from.
    pub template: String,
    /// Hash of the template that the run was last submitted with, if that is another one.
    pub superseded_by: Option<String>,
}

/// One thing to do. Doing it twice is as good as once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Makes a generation.
    Begin {
        /// Its number.
        generation: u32,
        /// Its slots.
        slots: u32,
        /// How things stood when it began.
        beginning: Beginning,
    },
    /// Changes the slots of a generation, whichever template it was made from.
    Resize {
        /// Its number.
        generation: u32,
        /// Its slots.
        slots: u32,
    },
    /// Ends a generation's pods, whose workers drain, and makes no others.
    Hold {
        /// Its number.
        generation: u32,
    },
    /// Takes that back.
    Release {
        /// Its number.
        generation: u32,
    },
    /// Ends a generation's pods, whose workers drain, and deletes it once they are gone.
    Delete {
        /// Its number.
        generation: u32,
    },
    /// Shows how far the run is.
    Annotate {
        /// The generation.
        generation: u32,
        /// What to show.
        progress: String,
    },
    /// Nothing is left to be done.
    End(Ending),
}

/// How things stand when a generation begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// Worker slots that are wanted, however few shards there are.
    pub wanted: u32,
    /// The round.
    pub round: u32,
    /// Rollouts with a result.
    pub graded: u64,
    /// Whether workers of older generations are there, who still drain.
    pub older_drain: bool,
}

/// Why nothing is left to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The run is over and sealed.
    Over,
    /// It was cancelled.
    Cancelled,
    /// Another generation would end as the last one did.
    Stuck(String),
    /// The run was submitted with another template since, whose hash this is: generations are made by whoever has that one.
    Superseded(String),
}

/// What is to be done.
pub fn decide(view: &View) -> Vec<Command> {
    let newest = view.jobs.iter().max_by_key(|job| job.generation);
    let older =
        view.jobs.iter().filter(|job| newest.is_some_and(|newest| job.generation < newest.generation));
    let mut commands: Vec<Command> = older.filter_map(delete).collect();
    match view.run.state {
        _ if view.run.over => commands.extend(finish(view, newest, Ending::Over)),
        RunState::Cancelled { .. } => commands.extend(finish(view, newest, Ending::Cancelled)),
        RunState::Paused => commands.extend(newest.filter(|job| may_rest(view, job)).and_then(hold)),
        RunState::Running => commands.extend(go_on(view, newest)),
    }
    commands.extend(newest.and_then(|newest| annotate(view, newest)));
    commands
}

/// Whether a pause has got where it leads: there are no pods, and none are made.
pub(crate) fn is_held(view: &View) -> bool {
    view.jobs.iter().all(|job| job.pods == 0 && (job.held || job.end.is_some() || job.deleting))
}

fn delete(job: &FleetJob) -> Option<Command> {
    let needed = job.end.is_none() && !job.deleting;
    needed.then_some(Command::Delete { generation: job.generation })
}

fn hold(job: &FleetJob) -> Option<Command> {
    let needed = !job.held && job.end.is_none() && !job.deleting;
    needed.then_some(Command::Hold { generation: job.generation })
}

/// Whether a paused generation's pods may go: a drain gives less time than an attempt may need to its end.
fn may_rest(view: &View, job: &FleetJob) -> bool {
    view.run.hold_now || !view.run.at_work || job.pods == 0
}

/// Workers leave by themselves; pods that wait for a node or an image, and what makes no pods, never would.
fn finish(view: &View, newest: Option<&FleetJob>, ending: Ending) -> Vec<Command> {
    let mut commands = Vec::new();
    match newest.filter(|job| job.end.is_none() && !job.deleting) {
        Some(job) if job.suspended && job.pods == 0 => {
            commands.push(Command::Delete { generation: job.generation });
        }
        Some(job) if job.pods > 0 && job.pods == job.pending => commands.extend(hold(job)),
        _ => {}
    }
    if view.jobs.iter().all(|job| job.pods == 0) {
        commands.push(Command::End(ending));
    }
    commands
}

fn go_on(view: &View, newest: Option<&FleetJob>) -> Vec<Command> {
    if let Some(other) = &view.wanted.superseded_by {
        return superseded(view, newest, other);
    }
    let Some(job) = newest else { return vec![begin(view, 1)] };
    if job.deleting {
        // Its name is free once it is gone.
        return Vec::new();
    }
    if let Some(end) = &job.end {
        return vec![after(view, job, end)];
    }
    if job.template != view.wanted.template || is_to_be_queued_anew(view, job) {
        return replace(view, job);
    }
    keep(view, job).into_iter().collect()
}

/// Another generation in the place of one whose workers drain. For as long as they do, slots are there twice, and claims keep
/// them from working twice.
fn replace(view: &View, job: &FleetJob) -> Vec<Command> {
    let next = begin(view, job.generation + 1);
    if job.queued {
        // Beside the old one's, a queue might have quota for a part of the new one, and would never admit the rest of it.
        return delete(job).into_iter().chain([next]).collect();
    }
    // In the other order, whoever is killed in between would leave a run without workers.
    [next].into_iter().chain(delete(job)).collect()
}

/// Whether a queue has to admit another number of slots. It would restart a KubeJob that is resized, or refuse that.
fn is_to_be_queued_anew(view: &View, job: &FleetJob) -> bool {
    // Shards that come and go are not worth a restart.
    job.queued && job.wanted != view.wanted.slots && slots(view, job) != job.slots
}

/// What is there is looked after; what comes next is for whoever has the template that is wanted.
fn superseded(view: &View, newest: Option<&FleetJob>, by: &str) -> Vec<Command> {
    let there = newest.filter(|job| job.end.is_none() && !job.deleting);
    let kept = there.and_then(|job| keep(view, job));
    kept.into_iter().chain([Command::End(Ending::Superseded(by.to_owned()))]).collect()
}

/// What comes after a generation that ended by itself.
fn after(view: &View, job: &FleetJob, end: &JobEnd) -> Command {
    let moved_on = view.run.graded > job.graded_before || view.run.round > job.round;
    match end {
        JobEnd::Refused(why) if view.run.round <= job.round && job.template == view.wanted.template => {
            Command::End(Ending::Stuck(why.clone()))
        }
        _ if moved_on || job.template != view.wanted.template => begin(view, job.generation + 1),
        JobEnd::Complete => Command::End(Ending::Stuck(
            "its workers left though rollouts are missing: is a budget used up?".to_owned(),
        )),
        JobEnd::Failed(why) | JobEnd::Refused(why) => Command::End(Ending::Stuck(why.clone())),
    }
}

fn keep(view: &View, job: &FleetJob) -> Option<Command> {
    if job.held {
        return Some(Command::Release { generation: job.generation });
    }
    let slots = slots(view, job);
    (slots != job.slots && !job.queued).then_some(Command::Resize { generation: job.generation, slots })
}

/// How many slots a generation should have. Idle ones cost less than ending those at work, so that fewer shards alone end none.
fn slots(view: &View, job: &FleetJob) -> u32 {
    let useful = u32::try_from(view.run.shards_left).unwrap_or(u32::MAX).max(job.slots);
    view.wanted.slots.min(useful).max(1)
}

fn begin(view: &View, generation: u32) -> Command {
    let useful = u32::try_from(view.run.shards_left).unwrap_or(u32::MAX).max(1);
    let slots = view.wanted.slots.min(useful).max(1);
    let older_drain = view.jobs.iter().any(|job| job.pods > 0);
    let wanted = view.wanted.slots;
    let beginning = Beginning { wanted, round: view.run.round, graded: view.run.graded, older_drain };
    Command::Begin { generation, slots, beginning }
}

fn annotate(view: &View, job: &FleetJob) -> Option<Command> {
    let due = match &job.progress {
        None => true,
        Some((shown, at)) => *shown != view.run.progress && view.now_unix_s - at >= PROGRESS_EVERY_S,
    };
    let progress = view.run.progress.clone();
    (due && !job.deleting).then_some(Command::Annotate { generation: job.generation, progress })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(jobs: Vec<FleetJob>) -> View {
        View {
            run: RunView {
                state: RunState::Running,
                hold_now: false,
                at_work: true,
                round: 1,
                over: false,
                graded: 10,
                shards_left: 100,
                progress: "10/200".to_owned(),
            },
            jobs,
            wanted: Wanted { slots: 4, template: "t".to_owned(), superseded_by: None },
            now_unix_s: 1_000,
        }
    }

    fn job(generation: u32) -> FleetJob {
        FleetJob {
            generation,
            template: "t".to_owned(),
            slots: 4,
            wanted: 4,
            queued: false,
            suspended: false,
            held: false,
            pods: 4,
            pending: 0,
            ready: 4,
            round: 1,
            graded_before: 0,
            end: None,
            deleting: false,
            progress: Some(("10/200".to_owned(), 995)),
        }
    }

    fn begin(generation: u32, slots: u32) -> Command {
        let beginning = Beginning { wanted: 4, round: 1, graded: 10, older_drain: false };
        Command::Begin { generation, slots, beginning }
    }

    fn begin_beside(generation: u32, slots: u32) -> Command {
        let beginning = Beginning { wanted: 4, round: 1, graded: 10, older_drain: true };
        Command::Begin { generation, slots, beginning }
    }

    fn superseded() -> Command {
        Command::End(Ending::Superseded("newer".to_owned()))
    }

    fn stuck(why: &str) -> Command {
        Command::End(Ending::Stuck(why.to_owned()))
    }

    #[test]
    fn a_run_gets_its_first_generation_and_never_more_slots_than_shards() {
        assert_eq!(decide(&view(vec![])), [begin(1, 4)]);
        let mut few = view(vec![]);
        few.run.shards_left = 3;
        assert_eq!(decide(&few), [begin(1, 3)]);
        few.run.shards_left = 0;
        assert_eq!(decide(&few), [begin(1, 1)]);
        assert_eq!(decide(&view(vec![job(1)])), [], "all is as it should be");
    }

    #[test]
    fn the_fleet_is_resized_but_not_because_shards_run_out() {
        let cases = [
            (4, 100, 2, Some(2)),
            (4, 100, 9, Some(9)),
            (4, 6, 9, Some(6)),
            (4, 2, 4, None),
            (4, 2, 9, None),
        ];
        for (slots, shards_left, wanted, applied) in cases {
            let mut view = view(vec![FleetJob { slots, ..job(1) }]);
            (view.run.shards_left, view.wanted.slots) = (shards_left, wanted);
            let expected: Vec<Command> =
                applied.map(|slots| Command::Resize { generation: 1, slots }).into_iter().collect();
            assert_eq!(decide(&view), expected, "{slots} slots, {shards_left} shards, {wanted} wanted");
        }
    }

    #[test]
    fn a_pause_holds_what_is_finished_and_a_resume_releases() {
        let mut paused = view(vec![job(1)]);
        paused.run.state = RunState::Paused;
        assert_eq!(decide(&paused), [], "what has begun is finished");
        assert!(!is_held(&paused));
        paused.run.hold_now = true;
        assert_eq!(decide(&paused), [Command::Hold { generation: 1 }], "or drained, if that was said");
        (paused.run.hold_now, paused.run.at_work) = (false, false);
        assert_eq!(decide(&paused), [Command::Hold { generation: 1 }]);
        paused.jobs = vec![FleetJob { held: true, suspended: true, pods: 1, ..job(1) }];
        assert!(decide(&paused).is_empty() && !is_held(&paused), "its pods still leave");
        paused.jobs = vec![FleetJob { held: true, suspended: true, pods: 0, ..job(1) }];
        assert!(decide(&paused).is_empty() && is_held(&paused), "no workers is as it should be");
        paused.run.state = RunState::Running;
        assert_eq!(decide(&paused), [Command::Release { generation: 1 }]);
        let waiting = FleetJob { suspended: true, pods: 0, ..job(1) };
        assert_eq!(decide(&view(vec![waiting.clone()])), [], "what a queue suspends is the queue's to begin");
        let mut queued = view(vec![waiting]);
        queued.run.state = RunState::Paused;
        assert_eq!(decide(&queued), [Command::Hold { generation: 1 }], "nothing of it is at work");
        let mut none = view(vec![]);
        none.run.state = RunState::Paused;
        assert!(decide(&none).is_empty() && is_held(&none), "nothing begins in a pause");
    }

    #[test]
    fn slots_that_died_are_replaced_as_long_as_that_gets_on() {
        let failed = JobEnd::Failed("too many indexes failed".to_owned());
        let refused = JobEnd::Refused("exit code 2".to_owned());
        let left = "its workers left though rollouts are missing: is a budget used up?";
        let cases = [
            (failed.clone(), 0, 1, begin(2, 4)),
            (failed.clone(), 10, 1, stuck("too many indexes failed")),
            (failed, 10, 0, begin(2, 4)),
            (JobEnd::Complete, 0, 1, begin(2, 4)),
            (JobEnd::Complete, 10, 1, stuck(left)),
            (refused.clone(), 0, 1, stuck("exit code 2")),
            (refused, 0, 0, begin(2, 4)),
        ];
        for (end, graded_before, round, expected) in cases {
            let job = FleetJob { end: Some(end), graded_before, round, pods: 0, ..job(1) };
            assert_eq!(decide(&view(vec![job.clone()])), [expected], "{job:?}");
        }
    }

    #[test]
    fn another_template_is_another_generation_that_begins_before_the_old_one_ends() {
        let old = FleetJob { template: "old".to_owned(), ..job(1) };
        let both = [begin_beside(2, 4), Command::Delete { generation: 1 }];
        assert_eq!(decide(&view(vec![old.clone()])), both);
        let killed_in_between = view(vec![job(2), old.clone()]);
        assert_eq!(decide(&killed_in_between), [Command::Delete { generation: 1 }]);
        let held = FleetJob { held: true, suspended: true, pods: 0, ..old.clone() };
        assert_eq!(decide(&view(vec![held])), [begin(2, 4), Command::Delete { generation: 1 }]);
        let draining = FleetJob { deleting: true, ..old.clone() };
        assert_eq!(decide(&view(vec![job(2), draining])), []);
        let refused = FleetJob { end: Some(JobEnd::Refused("exit code 2".to_owned())), pods: 0, ..old };
        assert_eq!(decide(&view(vec![refused])), [begin(2, 4)], "it may have been the template's fault");
    }

    #[test]
    fn a_queue_gets_its_quota_back_before_it_is_asked_for_another_number_of_slots() {
        let cases = [
            (4, 4, 100, None),
            (4, 9, 100, Some(9)),
            (4, 2, 100, Some(2)),
            (9, 9, 100, None),
            (4, 9, 2, None),
        ];
        for (wanted_before, wanted, shards_left, slots) in cases {
            for held in [false, true] {
                let queued =
                    FleetJob { queued: true, wanted: wanted_before, held, suspended: held, ..job(1) };
                let mut view = view(vec![queued]);
                (view.wanted.slots, view.run.shards_left) = (wanted, shards_left);
                let beginning = Beginning { wanted, round: 1, graded: 10, older_drain: true };
                let expected = match slots {
                    Some(slots) => {
                        let next = Command::Begin { generation: 2, slots, beginning };
                        vec![Command::Delete { generation: 1 }, next]
                    }
                    None if held => vec![Command::Release { generation: 1 }],
                    None => vec![],
                };
                assert_eq!(decide(&view), expected, "{wanted_before} to {wanted}, {shards_left} shards");
                view.wanted.superseded_by = Some("newer".to_owned());
                let resizes = |command: &Command| matches!(command, Command::Resize { .. });
                assert!(!decide(&view).iter().any(resizes), "that is for who has the template");
            }
        }
        let old = FleetJob { template: "old".to_owned(), queued: true, ..job(1) };
        assert_eq!(decide(&view(vec![old])), [Command::Delete { generation: 1 }, begin_beside(2, 4)]);
    }

    #[test]
    fn who_has_another_template_than_the_one_wanted_looks_after_what_is_there_and_begins_nothing() {
        let failed = FleetJob { end: Some(JobEnd::Failed("m".to_owned())), pods: 0, ..job(1) };
        let cases = [
            (vec![], 4, vec![superseded()]),
            (vec![job(1)], 4, vec![superseded()]),
            (vec![job(1)], 2, vec![Command::Resize { generation: 1, slots: 2 }, superseded()]),
            (
                vec![FleetJob { held: true, ..job(1) }],
                4,
                vec![Command::Release { generation: 1 }, superseded()],
            ),
            (vec![failed], 4, vec![superseded()]),
            (vec![FleetJob { deleting: true, progress: None, ..job(1) }], 2, vec![superseded()]),
        ];
        for (mut jobs, slots, expected) in cases {
            for template in ["t", "newer"] {
                jobs.iter_mut().for_each(|job| job.template = template.to_owned());
                let mut view = view(jobs.clone());
                (view.wanted.slots, view.wanted.superseded_by) = (slots, Some("newer".to_owned()));
                assert_eq!(decide(&view), expected, "{jobs:?}");
            }
        }
        let mut paused = view(vec![FleetJob { template: "newer".to_owned(), ..job(2) }]);
        (paused.wanted.superseded_by, paused.run.state) = (Some("newer".to_owned()), RunState::Paused);
        paused.run.hold_now = true;
        assert_eq!(decide(&paused), [Command::Hold { generation: 2 }]);
        paused.run.over = true;
        paused.jobs[0].pods = 0;
        paused.jobs[0].end = Some(JobEnd::Complete);
        assert_eq!(decide(&paused), [Command::End(Ending::Over)]);
    }

    #[test]
    fn two_coordinators_of_different_templates_do_not_fight() {
        // Each looks at what the other left; only the one with the wanted template makes anything.
        let old = FleetJob { template: "old".to_owned(), ..job(1) };
        let mut theirs = view(vec![old.clone(), job(2)]);
        theirs.wanted = Wanted { slots: 4, template: "old".to_owned(), superseded_by: Some("t".to_owned()) };
        let ending = Command::End(Ending::Superseded("t".to_owned()));
        assert_eq!(decide(&theirs), [Command::Delete { generation: 1 }, ending]);
        assert_eq!(decide(&view(vec![old, job(2)])), [Command::Delete { generation: 1 }]);
    }

    #[test]
    fn an_end_waits_for_the_pods_and_leaves_nothing_that_waits_for_ever() {
        let endings = [
            (RunState::Running, true, Ending::Over),
            (RunState::Cancelled { now: false }, false, Ending::Cancelled),
        ];
        for (state, over, ending) in endings {
            let mut view = view(vec![job(1)]);
            (view.run.state, view.run.over) = (state, over);
            assert_eq!(decide(&view), [], "its workers still leave");
            view.jobs = vec![FleetJob { ready: 1, ..job(1) }];
            assert_eq!(decide(&view), [], "one of them does");
            view.jobs = vec![FleetJob { ready: 0, pending: 3, ..job(1) }];
            assert_eq!(decide(&view), [], "a worker has ended, and what runs beside it ends");
            view.jobs = vec![FleetJob { ready: 0, pending: 4, ..job(1) }];
            assert_eq!(decide(&view), [Command::Hold { generation: 1 }], "its pods never began");
            view.jobs = vec![FleetJob { end: Some(JobEnd::Complete), pods: 0, ..job(1) }];
            assert_eq!(decide(&view), [Command::End(ending.clone())]);
            view.jobs = vec![FleetJob { suspended: true, pods: 0, ..job(1) }];
            assert_eq!(decide(&view), [Command::Delete { generation: 1 }, Command::End(ending.clone())]);
            view.jobs.clear();
            assert_eq!(decide(&view), [Command::End(ending)]);
        }
    }

    #[test]
    fn progress_is_shown_when_it_changed_and_not_too_often() {
        let shown = |shown: Option<(&str, i64)>| {
            let progress = shown.map(|(text, at)| (text.to_owned(), at));
            decide(&view(vec![FleetJob { progress, ..job(1) }]))
        };
        let annotate = [Command::Annotate { generation: 1, progress: "10/200".to_owned() }];
        assert_eq!(shown(None), annotate);
        assert_eq!(shown(Some(("9/200", 990))), annotate);
        assert_eq!(shown(Some(("9/200", 991))), []);
        assert_eq!(shown(Some(("10/200", 0))), []);
    }

    #[test]
    fn what_is_being_deleted_is_left_alone() {
        let going = FleetJob { deleting: true, progress: None, ..job(1) };
        assert_eq!(decide(&view(vec![going.clone()])), []);
        assert_eq!(decide(&view(vec![job(2), going])), []);
    }
}
