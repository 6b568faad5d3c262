//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// Runs software-engineering agents on thousands of tasks and turns what they did into training data.
#[derive(Parser, Debug)]
#[command(name = "thresher", version, after_help = exit_codes(), propagate_version = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(ClapArgs, Debug, Clone)]
pub(crate) struct GlobalArgs {
    /// What is logged to stderr, as in `warn` or `thresher_rollout=debug`.
    // What those two libraries complain of is told once, by who calls them and knows whether it matters.
    #[arg(
        long,
        global = true,
        env = "THRESHER_LOG",
        value_name = "FILTER",
        default_value = "warn,kube_client=off,aws_config=error"
    )]
    pub(crate) log_filter: String,
    /// How the log looks.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Compact)]
    pub(crate) log_format: LogFormat,
}

/// Log formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Compact,
    /// One JSON object a line.
    Json,
}

/// The verbs.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Runs a job, or goes on with one: the same command on the same run directory resumes.
    Run(Box<RunArgs>),
    /// Writes a run's plan and does not work on it: for workers that are started elsewhere.
    Plan(Box<PlanArgs>),
    /// Works on a planned run, together with any number of other workers on any machines.
    Worker(WorkerArgs),
    /// Plans a run and has a Kubernetes cluster work on it.
    Submit(Box<SubmitArgs>),
    /// Changes how many worker slots a run has on its cluster.
    Scale(ScaleArgs),
    /// Prints what the workers of a run on a cluster print.
    Logs(LogsArgs),
    /// Shows how far a run is, from what it keeps in its directory or bucket.
    Status(StatusArgs),
    /// Follows a run until it is sealed or cancelled.
    Watch(StatusArgs),
    /// Lists the runs below a directory or a bucket's prefix.
    Runs(RunsArgs),
    /// Has the workers of a run begin no further rollouts.
    Pause(PauseArgs),
    /// Has the workers of a run go on, and try faulted rollouts again.
    Resume(ResumeArgs),
    /// Has the workers of a run finish what they have begun, and leave.
    Cancel(CancelArgs),
    /// Shows what a run has found so far: outcomes, solve rate, faults, cost, time.
    Report(ReportArgs),
    /// Compares two runs task by task.
    Compare(CompareArgs),
    /// Shows one trajectory.
    Show(ShowArgs),
    /// Deletes files that are no part of a run any more; workers and readers may be at work meanwhile.
    Gc(GcArgs),
    /// Grades a stored log of a SWE-bench or R2E-Gym instance.
    Grade(GradeArgs),
    /// Checks this machine: what is missing for which backend, and how to fix it.
    Doctor(DoctorArgs),
    /// Prints the JSON schema of job files.
    Schema,
    /// Writes the sandboxes' first process into a folder, from where a pod's containers start it.
    #[command(hide = true)]
    InstallGuest {
        /// The folder.
        folder: PathBuf,
    },
}

/// `thresher run`.
#[derive(ClapArgs, Debug, Default)]
pub(crate) struct RunArgs {
    /// Job file (YAML). Flags below override it; with `--dataset` it may be left out.
    pub(crate) job: Option<PathBuf>,
    /// Dataset: a Parquet, JSONL or JSON file, or a directory of them.
    #[arg(short = 'd', long, value_name = "PATH")]
    pub(crate) dataset: Option<String>,
    /// Agent: `r2egym`, `oracle` or `null`.
    #[arg(short = 'a', long, value_name = "NAME")]
    pub(crate) agent: Option<String>,
    /// Model name as the endpoint knows it.
    #[arg(short = 'm', long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// OpenAI-compatible endpoint.
    #[arg(long, value_name = "URL")]
    pub(crate) base_url: Option<String>,
    /// Name of the environment variable that holds the endpoint's key.
    #[arg(long, value_name = "NAME")]
    pub(crate) api_key_env: Option<String>,
    /// Recorded model replies, used instead of an endpoint.
    #[arg(long, value_name = "FILE")]
    pub(crate) replay: Option<String>,
    /// Sandbox backend: `embedded`, `docker`, `pods` or `process`.
    #[arg(short = 'b', long, value_name = "NAME")]
    pub(crate) backend: Option<String>,
    /// Folder of OCI layouts and `docker save` archives for the embedded backend.
    #[arg(long, value_name = "DIR")]
    pub(crate) images: Option<String>,
    /// Run without isolation when nothing better is possible: same as `--backend process`.
    #[arg(long)]
    pub(crate) no_isolation: bool,
    /// Rollouts at a time.
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) concurrency: Option<u32>,
    /// Rollouts per task.
    #[arg(short = 'k', long, value_name = "N")]
    pub(crate) samples: Option<u32>,
    /// Sampling temperature.
    #[arg(long, value_name = "T")]
    pub(crate) temperature: Option<f32>,
    /// Rows to skip.
    #[arg(long, value_name = "N")]
    pub(crate) start: Option<u64>,
    /// Rows to keep at most.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Keep rows whose instance id matches; may be given more than once.
    #[arg(long, value_name = "GLOB")]
    pub(crate) only: Vec<String>,
    /// Keep rows for which the expression over their columns is true.
    #[arg(long, value_name = "EXPR")]
    pub(crate) filter: Option<String>,
    /// Shuffle rows with this seed, in numpy's and so R2E-Gym's order.
    #[arg(long, value_name = "SEED")]
    pub(crate) shuffle: Option<u64>,
    /// Run directory, or `s3://bucket/prefix/NAME`.
    #[arg(short = 'o', long, value_name = "RUN")]
    pub(crate) out: Option<String>,
    /// Folder for what outlives runs: baseline contents, hidden tests, unpacked images.
    #[arg(long, value_name = "DIR", env = "THRESHER_CACHE")]
    pub(crate) cache: Option<PathBuf>,
    /// Print the plan and stop.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print the result as JSON on stdout.
    #[arg(long)]
    pub(crate) json: bool,
    /// No progress view.
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,
}

/// `thresher plan`.
#[derive(ClapArgs, Debug)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) job: RunArgs,
    /// Do not store the dataset's files beside the plan in a bucket: every worker then needs `--dataset`.
    #[arg(long)]
    pub(crate) no_dataset: bool,
}

/// `thresher submit`.
#[derive(ClapArgs, Debug)]
pub(crate) struct SubmitArgs {
    #[command(flatten)]
    pub(crate) job: RunArgs,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Worker slots; as the cluster configuration says if absent.
    #[arg(long, value_name = "N")]
    pub(crate) slots: Option<u32>,
    /// Stay, look after the fleet until the run is over, and print its report.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Do not store the dataset's files beside the plan: the workers then need `--dataset`.
    #[arg(long)]
    pub(crate) no_dataset: bool,
    /// Make a campaign instead: a run of its own whenever this cron schedule says, below the folder that `--out` names, where
    /// the dataset is stored now, once for all of them.
    #[arg(long, value_name = "CRON", conflicts_with_all = ["wait", "run_name_from_job"])]
    pub(crate) schedule: Option<String>,
    /// Time zone of the schedule, such as `Europe/Berlin`.
    #[arg(long, value_name = "ZONE", requires = "schedule")]
    pub(crate) time_zone: Option<String>,
    /// Compare with the run before this one in the same folder, once this one is over, and exit with 10 where this one is
    /// worse by more than so many percentage points and more than chance explains.
    #[arg(long, value_name = "POINTS", num_args = 0..=1, default_missing_value = "0")]
    pub(crate) fail_on_regression: Option<f64>,
    /// Name the run, below the folder that `--out` names, after the KubeJob of the pod that this runs in.
    #[arg(long, requires = "kube_job")]
    pub(crate) run_name_from_job: bool,
    /// That KubeJob's name.
    #[arg(long, value_name = "NAME", env = "THRESHER_KUBE_JOB", hide = true)]
    pub(crate) kube_job: Option<String>,
}

/// Which cluster.
#[derive(ClapArgs, Debug)]
pub(crate) struct ClusterArgs {
    /// How workers run on the cluster (YAML): image, namespace, slots, placement.
    #[arg(long, value_name = "FILE", env = "THRESHER_CLUSTER_CONFIG")]
    pub(crate) cluster_config: Option<PathBuf>,
}

/// `thresher scale`.
#[derive(ClapArgs, Debug)]
pub(crate) struct ScaleArgs {
    /// `s3://bucket/prefix/NAME`.
    pub(crate) run: String,
    /// Worker slots.
    pub(crate) slots: u32,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// `thresher logs`.
#[derive(ClapArgs, Debug)]
pub(crate) struct LogsArgs {
    /// `s3://bucket/prefix/NAME`.
    pub(crate) run: String,
    /// Only of this worker slot.
    #[arg(long, value_name = "N")]
    pub(crate) slot: Option<u32>,
    /// Wait for more.
    #[arg(short = 'f', long)]
    pub(crate) follow: bool,
    /// Only the last lines of each worker.
    #[arg(long, value_name = "LINES")]
    pub(crate) tail: Option<i64>,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// `thresher worker`.
#[derive(ClapArgs, Debug)]
pub(crate) struct WorkerArgs {
    /// Run directory, or `s3://bucket/prefix/NAME`.
    #[arg(long, value_name = "RUN")]
    pub(crate) run: String,
    /// Rollouts at a time; as the job says if absent.
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) slots: Option<u32>,
    /// The dataset's place on this machine, where it is not the one that was planned with. What is not on this machine
    /// is fetched from the run's bucket.
    #[arg(short = 'd', long, value_name = "PATH")]
    pub(crate) dataset: Option<String>,
    /// OpenAI-compatible endpoint, where it is not the planned one.
    #[arg(long, value_name = "URL")]
    pub(crate) base_url: Option<String>,
    /// Name of the environment variable that holds the endpoint's key.
    #[arg(long, value_name = "NAME")]
    pub(crate) api_key_env: Option<String>,
    /// Recorded model replies, used instead of an endpoint.
    #[arg(long, value_name = "FILE")]
    pub(crate) replay: Option<String>,
    /// Sandbox backend: `embedded`, `docker`, `pods` or `process`.
    #[arg(short = 'b', long, value_name = "NAME")]
    pub(crate) backend: Option<String>,
    /// Folder of OCI layouts and `docker save` archives for the embedded backend.
    #[arg(long, value_name = "DIR")]
    pub(crate) images: Option<String>,
    /// Exit as a KubeJob needs it: with 0 whenever nothing is left to do, also where rollouts are faulted, the run was
    /// cancelled or a budget is used up, and with 2 where every worker would fail alike.
    #[arg(long)]
    pub(crate) in_job: bool,
    /// Folder for what outlives runs: baseline contents, hidden tests, unpacked images.
    #[arg(long, value_name = "DIR", env = "THRESHER_CACHE")]
    pub(crate) cache: Option<PathBuf>,
    /// Name of this worker's machine or pod in `thresher status`; the host's name if absent.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
    /// Print the result as JSON on stdout.
    #[arg(long)]
    pub(crate) json: bool,
    /// No progress view.
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,
}

/// `thresher status` and `thresher watch`.
#[derive(ClapArgs, Debug)]
pub(crate) struct StatusArgs {
    /// Run directory, or `s3://bucket/prefix/NAME`.
    pub(crate) run: String,
    /// Print JSON; `watch` prints one object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `thresher runs`.
#[derive(ClapArgs, Debug)]
pub(crate) struct RunsArgs {
    /// Directory or `s3://bucket/prefix` that runs lie below.
    pub(crate) place: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `thresher pause`.
#[derive(ClapArgs, Debug)]
pub(crate) struct PauseArgs {
    /// Run directory, or `s3://bucket/prefix/NAME`.
    pub(crate) run: String,
    /// End the pods of a run on a cluster at once: what their workers cannot finish within `drain_s` is begun again later.
    /// Without it they go when they have finished what they had begun; with `--cluster-config` this command waits for that.
    #[arg(long)]
    pub(crate) now: bool,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// `thresher resume`.
#[derive(ClapArgs, Debug)]
pub(crate) struct ResumeArgs {
    /// Run directory, or `s3://bucket/prefix/NAME`.
    pub(crate) run: String,
    /// Another limit in US dollars for the whole run.
    #[arg(long, value_name = "USD")]
    pub(crate) budget_usd: Option<f64>,
    /// Another limit in tokens.
    #[arg(long, value_name = "N")]
    pub(crate) budget_tokens: Option<u64>,
    /// Another limit in rollouts with a verdict.
    #[arg(long, value_name = "N")]
    pub(crate) budget_rollouts: Option<u64>,
    /// Another limit in seconds from now.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) budget_wall_s: Option<u64>,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// `thresher cancel`.
#[derive(ClapArgs, Debug)]
pub(crate) struct CancelArgs {
    /// Run directory, or `s3://bucket/prefix/NAME`.
    pub(crate) run: String,
    /// Break off rollouts that have begun; they count as faults of the workers.
    #[arg(long)]
    pub(crate) now: bool,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// `thresher report`.
#[derive(ClapArgs, Debug)]
pub(crate) struct ReportArgs {
    /// Run directory, or `s3://bucket/prefix/NAME`.
    pub(crate) run: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `thresher compare`.
#[derive(ClapArgs, Debug)]
pub(crate) struct CompareArgs {
    /// The run to compare with: a directory, or `s3://bucket/prefix/NAME`.
    pub(crate) old: String,
    /// The newer run.
    pub(crate) new: String,
    /// Exit with 10 where the newer run solves fewer of the tasks that both have, by more than so many percentage points
    /// and more than chance explains (sign test, p < 0.05).
    #[arg(long, value_name = "POINTS", num_args = 0..=1, default_missing_value = "0")]
    pub(crate) fail_on_regression: Option<f64>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `thresher show`.
#[derive(ClapArgs, Debug)]
pub(crate) struct ShowArgs {
    /// Run directory, or `s3://bucket/prefix/NAME`.
    pub(crate) run: String,
    /// Rollout id or a prefix of it, or an instance id with an optional `#sample`.
    pub(crate) rollout: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Show observations whole instead of their first and last lines.
    #[arg(long)]
    pub(crate) full: bool,
}

/// `thresher gc`.
#[derive(ClapArgs, Debug)]
pub(crate) struct GcArgs {
    /// Run directory, or `s3://bucket/prefix/NAME`.
    pub(crate) run: String,
    /// How long files stay once they are no part of the run, for whoever still reads them: as in `7d`, `12h`, `30m`, `0`.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = duration)]
    pub(crate) keep: Duration,
    /// Only say what would be deleted.
    #[arg(long, conflicts_with = "compact")]
    pub(crate) dry_run: bool,
    /// Merge small table files into larger ones first.
    #[arg(long)]
    pub(crate) compact: bool,
    /// Also delete the trajectories that were kept for grading, of rollouts whose results are in the tables of a sealed run.
    #[arg(long)]
    pub(crate) ungraded: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `thresher grade`.
#[derive(ClapArgs, Debug)]
pub(crate) struct GradeArgs {
    /// Dataset that holds the instance.
    #[arg(short = 'd', long, value_name = "PATH")]
    pub(crate) dataset: PathBuf,
    /// Instance id.
    #[arg(short = 'i', long, value_name = "ID")]
    pub(crate) instance: String,
    /// Stored log of the test run; `-` reads standard input.
    #[arg(short = 'l', long, value_name = "FILE")]
    pub(crate) log: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Use the seed's own rule, bit for bit (R2E-Gym rows).
    #[arg(long)]
    pub(crate) compat: bool,
}

/// `thresher doctor`.
#[derive(ClapArgs, Debug)]
pub(crate) struct DoctorArgs {
    /// Job file whose model endpoint and backend are checked too.
    pub(crate) job: Option<PathBuf>,
    /// Model endpoint to check.
    #[arg(long, value_name = "URL")]
    pub(crate) base_url: Option<String>,
    /// Name of the environment variable that holds the endpoint's key.
    #[arg(long, value_name = "NAME")]
    pub(crate) api_key_env: Option<String>,
    /// Folder for what outlives runs.
    #[arg(long, value_name = "DIR", env = "THRESHER_CACHE")]
    pub(crate) cache: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Reads a time as people write it: a whole number with `s`, `m`, `h` or `d`; `0` needs none.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time such as 7d, 12h, 30m or 45s");
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let unit = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        "" if number == 0 => 1,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).map(Duration::from_secs).ok_or_else(wrong)
}

fn exit_codes() -> String {
    let lines = thresher_core::exit_code::ALL.iter().map(|(code, meaning)| format!("  {code:>3}  {meaning}"));
    format!("Exit codes:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    /// A global option that has the name of a command's own takes its place, and no other check finds that.
    #[test]
    fn a_log_to_grade_is_not_the_filter_of_the_log() {
        let line = "thresher grade --dataset data --instance x --log tests.log";
        let args = Args::try_parse_from(line.split(' ')).unwrap();
        let Command::Grade(grade) = args.command else { panic!("{:?}", args.command) };
        assert_eq!(grade.log, PathBuf::from("tests.log"));
    }

    #[test]
    fn times_need_a_unit() {
        for (text, seconds) in [("7d", 604_800), ("12h", 43_200), ("30m", 1_800), ("45s", 45), ("0", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "7", "d", "1w", "-1d", "1.5h", "7 d", "99999999999999999999d", "999999999999999999d"]
        {
            assert!(duration(text).unwrap_err().contains(text), "{text}");
        }
    }
}
