//! Which of the rows: a pure function of what planning learned of each.

use globset::{GlobBuilder, GlobMatcher};
use thresher_core::InstanceId;
use thresher_core::plan::permutation::numpy_permutation;
use thresher_core::plan::{RefusedRow, TaskHandle};
use thresher_core::run_spec::SelectSpec;

use crate::error::DatasetError;

/// The chosen rows, in the order of selection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Those that can be run.
    pub tasks: Vec<TaskHandle>,
    /// Those that cannot, and why. They count towards the window: a window means the same rows for everybody.
    pub refused: Vec<RefusedRow>,
}

/// A row, as planning sees it.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) row: u64,
    pub(crate) instance_id: Option<InstanceId>,
    /// Whether `only` and `filter` let it through.
    pub(crate) chosen: bool,
    /// What can be run, or why it cannot.
    pub(crate) task: Result<TaskHandle, String>,
}

/// Applies shuffle, start and limit around the choice that each candidate carries.
pub(crate) fn select(candidates: Vec<Candidate>, spec: &SelectSpec) -> Selection {
    let SelectSpec { shuffle, start, limit, only: _, filter: _ } = spec;
    let rows = candidates.len() as u64;
    let order = match shuffle {
        Some(shuffle) => numpy_permutation(shuffle.seed, rows),
        None => (0..rows).collect(),
    };
    let mut candidates: Vec<Option<Candidate>> = candidates.into_iter().map(Some).collect();
    let start = usize::try_from(*start).unwrap_or(usize::MAX);
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let in_order = order.into_iter().filter_map(|row| candidates[row as usize].take());
    let mut selection = Selection::default();
    for candidate in in_order.skip(start).filter(|candidate| candidate.chosen).take(limit) {
        match candidate.task {
            Ok(task) => selection.tasks.push(task),
            Err(_) => selection.refused.push(candidate.into()),
        }
    }
    selection
}

/// The globs of `only`. An id without wildcards is a glob that matches itself.
pub(crate) struct Globs(Vec<GlobMatcher>);

impl Globs {
    pub(crate) fn new(patterns: &[String]) -> Result<Self, DatasetError> {
        patterns.iter().map(|pattern| glob(pattern)).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn match_any(&self, id: Option<&InstanceId>) -> bool {
        self.0.is_empty() || id.is_some_and(|id| self.0.iter().any(|glob| glob.is_match(id.as_str())))
    }

    /// The first glob that matches none of the ids: most likely a slip of the pen.
    pub(crate) fn unmatched<'a>(&self, ids: impl Iterator<Item = &'a InstanceId> + Clone) -> Option<&str> {
        let matches = |glob: &GlobMatcher| ids.clone().any(|id| glob.is_match(id.as_str()));
        self.0.iter().find(|glob| !matches(glob)).map(|glob| glob.glob().glob())
    }
}

/// Makes a glob in which a star matches any text, also slashes.
pub(crate) fn glob(pattern: &str) -> Result<GlobMatcher, DatasetError> {
    let built = GlobBuilder::new(pattern).literal_separator(false).build();
    built.map(|glob| glob.compile_matcher()).map_err(|error| DatasetError::Glob {
        pattern: pattern.to_owned(),
        problem: error.kind().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use thresher_core::Sha256Hex;
    use thresher_core::run_spec::ShuffleSpec;

    use super::*;

    fn candidate(row: u64) -> Candidate {
        let id = InstanceId::new(row.to_string());
        let handle =
            TaskHandle { instance_id: id.clone(), row_sha256: Sha256Hex::of(b""), image: "i".into(), row };
        let task = if row % 5 == 4 { Err("broken".to_owned()) } else { Ok(handle) };
        Candidate { row, instance_id: Some(id), chosen: row != 2, task }
    }

    /// Shuffle, start, limit; rows of the tasks and of the refused.
    type Window = (Option<ShuffleSpec>, u64, Option<u64>, &'static [u64], &'static [u64]);

    #[test]
    fn windows_are_cut_from_the_shuffled_order_and_clamped() {
        let shuffle = Some(ShuffleSpec { seed: 42 });
        // The permutation of ten rows under seed 42 is 5 6 0 7 3 2 4 9 1 8.
        let cases: [Window; 6] = [
            (None, 0, None, &[0, 1, 3, 5, 6, 7, 8], &[4, 9]),
            (None, 1, Some(3), &[1, 3], &[4]),
            (None, 8, Some(100), &[8], &[9]),
            (None, 100, None, &[], &[]),
            (shuffle.clone(), 0, Some(4), &[5, 6, 0, 7], &[]),
            (shuffle, 4, Some(3), &[3], &[4, 9]),
        ];
        for (shuffle, start, limit, tasks, refused) in cases {
            let spec = SelectSpec { shuffle, start, limit, ..SelectSpec::default() };
            let selection = select((0..10).map(candidate).collect(), &spec);
            assert_eq!(selection.tasks.iter().map(|task| task.row).collect::<Vec<_>>(), tasks, "{spec:?}");
            assert_eq!(selection.refused.iter().map(|row| row.row).collect::<Vec<_>>(), refused, "{spec:?}");
        }
    }

    #[test]
    fn globs_match_whole_ids() {
        let globs = Globs::new(&["django__*".into(), "a/b-1".into()]).unwrap();
        for (id, matches) in [("django__django-1", true), ("a/b-1", true), ("a/b-12", false), ("x", false)] {
            assert_eq!(globs.match_any(Some(&InstanceId::new(id))), matches, "{id}");
        }
        let ids = [InstanceId::new("django__django-1")];
        assert_eq!(globs.unmatched(ids.iter()), Some("a/b-1"));
        assert!(Globs::new(&["a[".into()]).is_err());
    }
}
