//! Seeded random contents and edits.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::patch::{
    ApplyMode, FileChange, FileMode, TreeEntry, blob_id, changed_paths, parse, render, tree_id,
};

/// A snapshot of a directory tree.
pub(super) type Tree = BTreeMap<Vec<u8>, (FileMode, Bytes)>;

/// SplitMix64: a small generator, so that a failing seed can be replayed anywhere.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// Lines of a small vocabulary, so that hunks find wrong places to go.
    fn line(&mut self) -> Vec<u8> {
        let words: [&[u8]; 10] = [
            b"",
            b"}",
            b"    return x",
            b"def f():",
            b"a",
            b"b",
            b"caf\xc3\xa9",
            b"\xff\xfe",
            b"\tx ",
            b"-- y",
        ];
        let end: &[u8] = if self.below(12) == 0 { b"\r\n" } else { b"\n" };
        [self.pick(&words), end].concat()
    }

    pub(super) fn text(&mut self, lines: usize) -> Vec<u8> {
        let mut text = (0..lines).flat_map(|_| self.line()).collect::<Vec<u8>>();
        if self.below(4) == 0 && text.ends_with(b"\n") {
            text.pop();
        }
        text
    }

    fn binary(&mut self) -> Vec<u8> {
        let length = *self.pick(&[1, 5, 52, 53, 700]);
        let mut content: Vec<u8> = (0..length).map(|_| self.next() as u8).collect();
        content[0] = 0;
        content
    }

    fn content(&mut self) -> Vec<u8> {
        match self.below(8) {
            0 => Vec::new(),
            1 => self.binary(),
            2 => [&b"late\n".repeat(1600)[..], b"\0 is text to git\n"].concat(),
            _ => {
                let lines = self.below(60);
                self.text(lines)
            }
        }
    }

    pub(super) fn file(&mut self) -> (FileMode, Bytes) {
        match self.below(8) {
            0 => (FileMode::Symlink, Bytes::from_static(b"some/target")),
            1 => (FileMode::Executable, self.content().into()),
            _ => (FileMode::Regular, self.content().into()),
        }
    }

    /// Inserts, removes and replaces lines.
    pub(super) fn edited(&mut self, content: &[u8]) -> Vec<u8> {
        let mut lines: Vec<Vec<u8>> =
            content.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
        for _ in 0..=self.below(4) {
            let at = self.below(lines.len() + 1);
            match self.below(3) {
                0 => lines.insert(at, self.line()),
                1 if at < lines.len() => drop(lines.remove(at)),
                _ if at < lines.len() => lines[at] = self.line(),
                _ => lines.push(b"no newline".to_vec()),
            }
        }
        lines.concat()
    }

    fn edited_file(&mut self, (mode, content): &(FileMode, Bytes)) -> Option<(FileMode, Bytes)> {
        match self.below(6) {
            0 => None,
            1 => Some(self.file()),
            2 if *mode != FileMode::Symlink => Some((FileMode::Executable, content.clone())),
            _ if *mode == FileMode::Symlink => Some((*mode, Bytes::from_static(b"elsewhere"))),
            _ => Some((*mode, self.edited(content).into())),
        }
    }

    pub(super) fn tree(&mut self) -> Tree {
        let names = NAMES.iter().filter(|_| self.below(3) > 0).collect::<Vec<_>>();
        names.into_iter().map(|name| (name.as_bytes().to_vec(), self.file())).collect()
    }

    pub(super) fn edited_tree(&mut self, tree: &Tree) -> Tree {
        let mut edited = self.tree();
        for (path, file) in tree {
            if self.below(3) == 0 {
                edited.insert(path.clone(), file.clone());
            } else if let Some(file) = self.edited_file(file) {
                edited.insert(path.clone(), file);
            } else {
                edited.remove(path);
            }
        }
        edited
    }
}

/// Names around git's sorting and quoting.
const NAMES: [&str; 16] = [
    "a",
    "a.b",
    "ab/c",
    "ab.c",
    "ab0",
    "dir/a b",
    "dir/sub/deep.py",
    "dir/sub.py",
    "dir-x",
    "grün",
    "quote\"d",
    "tab\tbed",
    "b a/b",
    "back\\slash",
    "-dash",
    "z z",
];

/// The tree as entries, with a rotation to show that order does not matter.
pub(super) fn entries(tree: &Tree) -> Vec<TreeEntry> {
    let entry = |(path, (mode, content)): (&Vec<u8>, &(FileMode, Bytes))| TreeEntry {
        path: path.clone(),
        mode: *mode,
        blob: blob_id(content),
    };
    let mut entries: Vec<TreeEntry> = tree.iter().map(entry).collect();
    let half = entries.len() / 2;
    entries.rotate_left(half);
    entries
}

/// What differs, as the worker would collect it.
pub(super) fn changes(old: &Tree, new: &Tree) -> Vec<FileChange> {
    let changed = changed_paths(&entries(old), &entries(new));
    let change =
        |path: Vec<u8>| FileChange { old: old.get(&path).cloned(), new: new.get(&path).cloned(), path };
    changed.into_iter().map(|changed| change(changed.path)).collect()
}

/// The tree after a patch.
pub(super) fn patched(tree: &Tree, patch: &[u8], mode: ApplyMode) -> Result<Tree, String> {
    let patch = parse(patch).map_err(|error| error.to_string())?;
    let result = patch.apply(mode, |path| tree.get(path).cloned()).map_err(|error| error.to_string())?;
    let mut tree = tree.clone();
    for change in result {
        match change.new {
            Some(file) => drop(tree.insert(change.path, file)),
            None => drop(tree.remove(&change.path)),
        }
    }
    Ok(tree)
}

#[test]
fn rendered_patches_lead_exactly_from_old_to_new() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let old = random.tree();
        let new = random.edited_tree(&old);
        let rendered = render(&changes(&old, &new));
        for mode in [ApplyMode::Exact, ApplyMode::Git] {
            let result =
                patched(&old, &rendered.bytes, mode).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert!(result == new, "seed {seed}, {mode:?}");
            assert_eq!(tree_id(&entries(&result)), tree_id(&entries(&new)));
        }
        assert_eq!(rendered.files as usize, changes(&old, &new).len());
    }
}

#[test]
fn an_exact_patch_refuses_any_other_base() {
    for seed in 0..100 {
        let mut random = Random(seed);
        let lines = 1 + random.below(20);
        let old = random.text(lines);
        let (new, other) = (random.edited(&old), random.edited(&old));
        let file = |content: &[u8]| Some((FileMode::Regular, Bytes::copy_from_slice(content)));
        let rendered = render(&[FileChange { path: b"f".to_vec(), old: file(&old), new: file(&new) }]);
        if old != new && old != other {
            let tree = Tree::from([(b"f".to_vec(), (FileMode::Regular, other.into()))]);
            let error = patched(&tree, &rendered.bytes, ApplyMode::Exact).unwrap_err();
            assert!(error.starts_with("f: the old content is "), "{error}");
        }
    }
}
