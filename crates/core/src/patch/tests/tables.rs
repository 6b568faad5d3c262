//! Hand-made patches: what they do to a small tree, and that git agrees where there is a git.

use bytes::Bytes;

use super::against_git::Repository;
use super::random::{Tree, entries, patched};
use crate::patch::{ApplyMode, FileChange, FileMode, parse, render, tree_id};

/// Whether plain `git apply` does the same.
#[derive(Clone, Copy, PartialEq)]
enum Git {
    Agrees,
    /// We are kinder or saner on purpose; the case says where.
    Differs,
}
use Git::{Agrees, Differs};

struct Case {
    name: &'static str,
    before: &'static [(&'static str, &'static str)],
    patch: &'static str,
    /// The files afterwards, or a part of the message.
    after: Result<&'static [(&'static str, &'static str)], &'static str>,
    git: Git,
}

const NUMBERS: &str = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";

const CASES: &[Case] = &[
    Case {
        name: "a hunk that moved, in a patch with a mail around it",
        before: &[("f", "0\n1\n2\n3\n4\n5\n")],
        patch: "From: me\n\n---\n f | 2 +-\n\ndiff --git a/f b/f\nindex 1111111..2222222 100644\n--- a/f\n+++ b/f\n@@ -1,4 +1,4 @@ def g():\n 2\n-3\n+x\n 4\n 5\n-- \n2.39.5\n",
        after: Err(
            "f, hunk 1: the lines are found at line 3, but the hunk without context belongs to the start",
        ),
        git: Agrees,
    },
    Case {
        name: "a hunk that moved and is not bound to the start",
        before: &[("f", "0\n1\n2\n3\n4\n5\n")],
        patch: "--- a/f\n+++ b/f\n@@ -2,3 +2,3 @@\n 2\n-3\n+x\n 4\n",
        after: Ok(&[("f", "0\n1\n2\nx\n4\n5\n")]),
        git: Agrees,
    },
    Case {
        name: "a hunk without context after it is bound to the end",
        before: &[("f", NUMBERS)],
        patch: "--- a/f\n+++ b/f\n@@ -4,2 +4,3 @@\n 4\n 5\n+x\n",
        after: Err(
            "f, hunk 1: the lines are found at line 4, but the hunk without context belongs to the end",
        ),
        git: Agrees,
    },
    Case {
        name: "a line that differs is named",
        before: &[("f", NUMBERS)],
        patch: "--- a/f\n+++ b/f\n@@ -2,4 +2,4 @@\n 2\n 3\n-x\n+y\n 5\n",
        after: Err(r#"f, hunk 1: line 4 is "4\n", the patch expects "x\n""#),
        git: Agrees,
    },
    Case {
        name: "a file that is too short",
        before: &[("f", "1\n2\n")],
        patch: "--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n 1\n 2\n-3\n+y\n",
        after: Err(r#"f, hunk 1: the file ends at line 2, the patch expects "3\n" there"#),
        git: Agrees,
    },
    Case {
        name: "hunks cannot use the same lines twice",
        before: &[("f", NUMBERS)],
        patch: "--- a/f\n+++ b/f\n@@ -2,3 +2,3 @@\n 2\n-3\n+x\n 4\n@@ -4,3 +4,3 @@\n 4\n-5\n+y\n 6\n",
        after: Err("f, hunk 2: the lines at line 4 were already used by an earlier hunk"),
        git: Agrees,
    },
    Case {
        name: "several hunks with growth between them",
        before: &[("f", NUMBERS)],
        patch: "--- a/f\n+++ b/f\n@@ -1,2 +1,4 @@\n 1\n+a\n+b\n 2\n@@ -7,3 +9,2 @@\n 7\n-8\n 9\n",
        after: Ok(&[("f", "1\na\nb\n2\n3\n4\n5\n6\n7\n9\n")]),
        git: Agrees,
    },
    Case {
        name: "CRLF lines are kept and must match",
        before: &[("f", "1\r\n2\r\n3\r\n")],
        patch: "--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n 1\r\n-2\r\n+x\r\n 3\r\n",
        after: Ok(&[("f", "1\r\nx\r\n3\r\n")]),
        git: Agrees,
    },
    Case {
        name: "LF lines do not match CRLF lines",
        before: &[("f", "1\r\n2\r\n3\r\n")],
        patch: "--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n 1\n-2\n+x\n 3\n",
        after: Err(r#"line 1 is "1\r\n", the patch expects "1\n""#),
        git: Agrees,
    },
    Case {
        name: "a missing newline is added",
        before: &[("f", "1\n2")],
        patch: "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n 1\n-2\n\\ No newline at end of file\n+2\n",
        after: Ok(&[("f", "1\n2\n")]),
        git: Agrees,
    },
    Case {
        name: "a newline is taken away",
        before: &[("f", "1\n2\n")],
        patch: "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n 1\n-2\n+2\n\\ No newline at end of file\n",
        after: Ok(&[("f", "1\n2")]),
        git: Agrees,
    },
    Case {
        name: "a last context line without newline matches one with white space after it, as in git",
        before: &[("f", "1\n2\n3 \n")],
        patch: "--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n 1\n-2\n+x\n 3\n\\ No newline at end of file\n",
        after: Ok(&[("f", "1\nx\n3")]),
        git: Agrees,
    },
    Case {
        name: "a trimmed empty context line",
        before: &[("f", "1\n\n3\n")],
        patch: "--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n 1\n\n-3\n+x\n",
        after: Ok(&[("f", "1\n\nx\n")]),
        git: Agrees,
    },
    Case {
        name: "a trimmed last newline: datasets have it, git calls it corrupt",
        before: &[("f", "1\n2\n")],
        patch: "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n 1\n-2\n+x",
        after: Ok(&[("f", "1\nx\n")]),
        git: Differs,
    },
    Case {
        name: "no context at all",
        before: &[("f", NUMBERS)],
        patch: "--- a/f\n+++ b/f\n@@ -4 +4 @@\n-4\n+x\n",
        after: Err("the lines are found at line 4, but the hunk without context belongs to the end"),
        git: Agrees,
    },
    Case {
        name: "names without folders",
        before: &[("f", "1\n"), ("g", "1\n")],
        patch: "--- f\n+++ f\n@@ -1 +1 @@\n-1\n+x\n--- g\n+++ g\n@@ -1 +1 @@\n-1\n+x\n",
        after: Ok(&[("f", "x\n"), ("g", "x\n")]),
        git: Agrees,
    },
    Case {
        name: "time stamps, and an .orig name",
        before: &[("f", "1\n")],
        patch: "--- a/f\t2024-01-01 10:00:00.000000000 +0100\n+++ b/f.orig\t2024-01-01 10:00:01.000000000 +0100\n@@ -1 +1 @@\n-1\n+x\n",
        after: Ok(&[("f", "x\n")]),
        git: Agrees,
    },
    Case {
        name: "a time stamp at the epoch is a file that is not there",
        before: &[("g", "1\n")],
        patch: "--- a/f\t1970-01-01 01:00:00.000000000 +0100\n+++ b/f\t2024-01-01 10:00:01 +0100\n@@ -0,0 +1 @@\n+x\n--- a/g\t2024-01-01 10:00:01 +0100\n+++ b/g\t1969-12-31 16:00:00 -0800\n@@ -1 +0,0 @@\n-1\n",
        after: Ok(&[("f", "x\n")]),
        git: Agrees,
    },
    Case {
        name: "a plain diff of nothing makes the file",
        before: &[],
        patch: "--- a/f\n+++ b/f\n@@ -0,0 +1,2 @@\n+1\n+2\n",
        after: Ok(&[("f", "1\n2\n")]),
        git: Agrees,
    },
    Case {
        name: "a plain diff that empties a file leaves it",
        before: &[("f", "1\n")],
        patch: "--- a/f\n+++ b/f\n@@ -1 +0,0 @@\n-1\n",
        after: Ok(&[("f", "")]),
        git: Agrees,
    },
    Case {
        name: "/dev/null on either side",
        before: &[("g", "1\n")],
        patch: "--- /dev/null\n+++ b/d/f\n@@ -0,0 +1 @@\n+x\n--- a/g\n+++ /dev/null\n@@ -1 +0,0 @@\n-1\n",
        after: Ok(&[("d/f", "x\n")]),
        git: Agrees,
    },
    Case {
        name: "a git header without mode line: models write it, git takes /dev/null for a name",
        before: &[],
        patch: "diff --git a/f b/f\n--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+x\n",
        after: Ok(&[("f", "x\n")]),
        git: Differs,
    },
    Case {
        name: "a file is made where one is",
        before: &[("f", "1\n")],
        patch: "diff --git a/f b/f\nnew file mode 100644\n--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+x\n",
        after: Err("f: the file already exists"),
        git: Agrees,
    },
    Case {
        name: "a file that is missing",
        before: &[],
        patch: "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-1\n+x\n",
        after: Err("f: the file does not exist"),
        git: Agrees,
    },
    Case {
        name: "a deletion that leaves content",
        before: &[("f", "1\n2\n")],
        patch: "diff --git a/f b/f\ndeleted file mode 100644\n--- a/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-1\n",
        after: Err(
            "f, hunk 1: the lines are found at line 1, but the hunk without context belongs to the end",
        ),
        git: Agrees,
    },
    Case {
        name: "a deletion without hunks of a file with content",
        before: &[("f", "1\n")],
        patch: "diff --git a/f b/f\ndeleted file mode 100644\nindex e69de29..0000000\n",
        after: Err("f: the file would be deleted, but the patch does not remove all of its content"),
        git: Agrees,
    },
    Case {
        name: "an empty file",
        before: &[],
        patch: "diff --git a/f b/f\nnew file mode 100644\nindex 0000000..e69de29\n",
        after: Ok(&[("f", "")]),
        git: Agrees,
    },
    Case {
        name: "modes",
        before: &[("f", "1\n")],
        patch: "diff --git a/f b/f\nold mode 100644\nnew mode 100755\n",
        after: Ok(&[("f*", "1\n")]),
        git: Agrees,
    },
    Case {
        name: "the mode of the index line does not change the file's",
        before: &[("f*", "1\n")],
        patch: "diff --git a/f b/f\nindex d00491f..587be6b 100644\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-1\n+x\n",
        after: Ok(&[("f*", "x\n")]),
        git: Agrees,
    },
    Case {
        name: "a link where a file is expected",
        before: &[("f@", "1")],
        patch: "diff --git a/f b/f\nindex d00491f..587be6b 100644\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-1\n+x\n",
        after: Err("f: the file has mode 120000, the patch expects 100644"),
        git: Agrees,
    },
    Case {
        name: "a link changes",
        before: &[("f@", "old")],
        patch: "diff --git a/f b/f\nindex 1111111..2222222 120000\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-old\n\\ No newline at end of file\n+new\n\\ No newline at end of file\n",
        after: Ok(&[("f@", "new")]),
        git: Agrees,
    },
    Case {
        name: "a file becomes a link",
        before: &[("f", "1\n")],
        patch: "diff --git a/f b/f\ndeleted file mode 100644\nindex d00491f..0000000\n--- a/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-1\ndiff --git a/f b/f\nnew file mode 120000\nindex 0000000..1de5659\n--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+target\n\\ No newline at end of file\n",
        after: Ok(&[("f@", "target")]),
        git: Agrees,
    },
    Case {
        name: "a rename with a change, and one without",
        before: &[("a", "1\n2\n"), ("x y", "1\n")],
        patch: "diff --git a/a b/d/b\nsimilarity index 50%\nrename from a\nrename to d/b\n--- a/a\n+++ b/d/b\n@@ -1,2 +1,2 @@\n 1\n-2\n+x\ndiff --git a/x y b/z z\nsimilarity index 100%\nrename from x y\nrename to z z\n",
        after: Ok(&[("d/b", "1\nx\n"), ("z z", "1\n")]),
        git: Agrees,
    },
    Case {
        name: "a rename onto a file",
        before: &[("a", "1\n"), ("b", "2\n")],
        patch: "diff --git a/a b/b\nsimilarity index 100%\nrename from a\nrename to b\n",
        after: Err("b: the file already exists"),
        git: Agrees,
    },
    Case {
        name: "two files swap their names",
        before: &[("a", "1\n"), ("b", "2\n")],
        patch: "diff --git a/a b/b\nrename from a\nrename to b\ndiff --git a/b b/a\nrename from b\nrename to a\n",
        after: Ok(&[("a", "2\n"), ("b", "1\n")]),
        git: Agrees,
    },
    Case {
        name: "copies read what was there before",
        before: &[("a", "1\n")],
        patch: "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-1\n+x\ndiff --git a/a b/c\nsimilarity index 100%\ncopy from a\ncopy to c\n",
        after: Ok(&[("a", "x\n"), ("c", "1\n")]),
        git: Agrees,
    },
    Case {
        name: "a file that is touched twice",
        before: &[("a", "1\n2\n")],
        patch: "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1,2 +1,2 @@\n-1\n+x\n 2\ndiff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1,2 +1,2 @@\n x\n-2\n+y\n",
        after: Ok(&[("a", "x\ny\n")]),
        git: Agrees,
    },
    Case {
        name: "a new file that is changed at once",
        before: &[],
        patch: "diff --git a/a b/a\nnew file mode 100644\n--- /dev/null\n+++ b/a\n@@ -0,0 +1 @@\n+1\ndiff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-1\n+x\n",
        after: Ok(&[("a", "x\n")]),
        git: Agrees,
    },
    Case {
        name: "a change to what was deleted before",
        before: &[("a", "1\n")],
        patch: "diff --git a/a b/a\ndeleted file mode 100644\n--- a/a\n+++ /dev/null\n@@ -1 +0,0 @@\n-1\ndiff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-1\n+x\n",
        after: Err("a: the file has been renamed or deleted earlier in the patch"),
        git: Agrees,
    },
    Case {
        name: "a deletion of what was changed before: git writes the changed file again",
        before: &[("a", "1\n")],
        patch: "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-1\n+x\ndiff --git a/a b/a\ndeleted file mode 100644\n--- a/a\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n",
        after: Ok(&[]),
        git: Differs,
    },
    Case {
        name: "quoted names",
        before: &[("tab\there", "1\n"), ("grün x", "1\n")],
        patch: "diff --git \"a/tab\\there\" \"b/tab\\there\"\n--- \"a/tab\\there\"\n+++ \"b/tab\\there\"\n@@ -1 +1 @@\n-1\n+x\ndiff --git \"a/gr\\303\\274n x\" \"b/gr\\303\\274n x\"\n--- \"a/gr\\303\\274n x\"\t\n+++ \"b/gr\\303\\274n x\"\t\n@@ -1 +1 @@\n-1\n+x\n",
        after: Ok(&[("grün x", "x\n"), ("tab\there", "x\n")]),
        git: Agrees,
    },
    Case {
        name: "binary contents that are not in the patch",
        before: &[("f", "\0old")],
        patch: "diff --git a/f b/f\nindex 1111111..2222222 100644\nBinary files a/f and b/f differ\n",
        after: Err("f: the patch has no index line with full blob ids"),
        git: Agrees,
    },
    Case {
        name: "binary contents of another base",
        before: &[("f", "\0other")],
        patch: "diff --git a/f b/f\nindex 17a72a09b7af7b5ba1a2cf1ae1e7d26ba2a43ae4..e8b86ad9ae0d6ec7d3d5d1ac6acb2f6f3b2a0d4a 100644\nGIT binary patch\nliteral 1\nIcmZPo000310RR91\n\nliteral 1\nIcmZPo000310RR91\n\n",
        after: Err("f: the old content is fe27c79b599af8540adbd04a9c22a2736b7606c5"),
        git: Agrees,
    },
    Case {
        name: "a hunk that is shorter than it says",
        before: &[("f", NUMBERS)],
        patch: "--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n 1\n-2\n+x\n",
        after: Err("line 6: f, hunk 1: it ends before the lines that its header announces"),
        git: Agrees,
    },
    Case {
        name: "a hunk that changes nothing",
        before: &[("f", NUMBERS)],
        patch: "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n 1\n 2\n",
        after: Err("f, hunk 1: it changes nothing"),
        git: Agrees,
    },
    Case {
        name: "a hunk without header",
        before: &[("f", NUMBERS)],
        patch: "@@ -1,2 +1,2 @@\n 1\n-2\n+x\n",
        after: Err("line 1: bad file header: a hunk without a file header"),
        git: Agrees,
    },
    Case {
        name: "a header without change",
        before: &[("f", NUMBERS)],
        patch: "diff --git a/f b/f\nindex 1111111..2222222 100644\n",
        after: Err("line 3: bad file header: nothing follows it"),
        git: Agrees,
    },
    Case {
        name: "names that differ without a word of a rename: git moves the file",
        before: &[("f", NUMBERS), ("g", "in the way\n")],
        patch: "diff --git a/f b/f\n--- a/f\n+++ b/g\n@@ -1,2 +1,2 @@\n-1\n+x\n 2\n",
        after: Ok(&[("g", "x\n2\n3\n4\n5\n6\n7\n8\n9\n")]),
        git: Agrees,
    },
    Case {
        name: "names that contradict each other",
        before: &[("f", NUMBERS)],
        patch: "diff --git a/f b/g\nrename from f\nrename to g\n--- a/f\n+++ b/h\n@@ -1,2 +1,2 @@\n-1\n+x\n 2\n",
        after: Err("the names `g` and `h` contradict each other"),
        git: Agrees,
    },
    Case { name: "no patch", before: &[], patch: "hello\n", after: Err("no file header"), git: Agrees },
    Case {
        name: "a path out of the tree",
        before: &[],
        patch: "--- /dev/null\n+++ b/../f\n@@ -0,0 +1 @@\n+x\n",
        after: Err(r#"line 1: path "../f" is not within the tree"#),
        git: Agrees,
    },
    Case {
        name: "a path into the repository's own data",
        before: &[],
        patch: "--- /dev/null\n+++ b/.git/hooks/x\n@@ -0,0 +1 @@\n+x\n",
        after: Err("is not within the tree"),
        git: Agrees,
    },
];

/// A trailing `*` marks an executable file, `@` a link.
fn tree(files: &[(&str, &str)]) -> Tree {
    let entry = |(name, content): &(&str, &str)| {
        let (path, mode) = match (name.strip_suffix('*'), name.strip_suffix('@')) {
            (Some(path), _) => (path, FileMode::Executable),
            (_, Some(path)) => (path, FileMode::Symlink),
            _ => (*name, FileMode::Regular),
        };
        (path.as_bytes().to_vec(), (mode, Bytes::copy_from_slice(content.as_bytes())))
    };
    files.iter().map(entry).collect()
}

#[test]
fn patches_do_what_git_makes_of_them() {
    let repository = Repository::new();
    for Case { name, before, patch, after, git } in CASES {
        let result = patched(&tree(before), patch.as_bytes(), ApplyMode::Git);
        match (after, &result) {
            (Ok(files), Ok(result)) => assert_eq!(*result, tree(files), "{name}"),
            (Err(part), Err(message)) => assert!(message.contains(part), "{name}: {message}"),
            _ => panic!("{name}: {result:?}"),
        }
        if let Some(repository) = &repository {
            let before_id = repository.put(&tree(before));
            let accepted = repository.git(&["apply", "--whitespace=nowarn"], patch.as_bytes());
            let theirs = repository.snapshot();
            let ours = result.map_or(before_id, |tree| tree_id(&entries(&tree)).to_string());
            let same = theirs == ours && accepted.is_ok() == after.is_ok();
            assert_eq!(same, *git == Agrees, "{name}: git says {accepted:?}");
        }
    }
}

#[test]
fn a_rendered_patch_reads_as_git_would_write_it() {
    let file = |mode, content: &'static [u8]| Some((mode, Bytes::from_static(content)));
    let change = |path: &str, old, new| FileChange { path: path.as_bytes().to_vec(), old, new };
    let changes = [
        change("z", file(FileMode::Regular, b"gone\n"), None),
        change(
            "a b.py",
            file(FileMode::Regular, b"def f():\n    1\n    2\n    3\n    4\n    5\n"),
            file(FileMode::Executable, b"def f():\n    1\n    2\n    3\n    4\n    six"),
        ),
        change("same", file(FileMode::Regular, b"x"), file(FileMode::Regular, b"x")),
        change("b\t", None, file(FileMode::Symlink, b"a b.py")),
        change("c", None, file(FileMode::Regular, b"")),
    ];
    let rendered = render(&changes);
    let expected = r#"diff --git a/a b.py b/a b.py
old mode 100644
new mode 100755
index 64354547b40bb225cd3827809add979873a66509..9b37cf0f5b3d147c38f735e67f64100fb794394c
--- a/a b.py	
+++ b/a b.py	
@@ -3,4 +3,4 @@ def f():
     2
     3
     4
-    5
+    six
\ No newline at end of file
diff --git "a/b\t" "b/b\t"
new file mode 120000
index 0000000000000000000000000000000000000000..286a3befdd7fb48ee52bfed6b978aa0ec0e64d5e
--- /dev/null
+++ "b/b\t"
@@ -0,0 +1 @@
+a b.py
\ No newline at end of file
diff --git a/c b/c
new file mode 100644
index 0000000000000000000000000000000000000000..e69de29bb2d1d6434b8b29ae775ad8c2e48c5391
diff --git a/z b/z
deleted file mode 100644
index 286c5f5776916d7d7d5849988ca9d83e722cf9c2..0000000000000000000000000000000000000000
--- a/z
+++ /dev/null
@@ -1 +0,0 @@
-gone
"#;
    assert_eq!(String::from_utf8(rendered.bytes).unwrap(), expected);
    assert_eq!((rendered.files, rendered.added, rendered.removed), (4, 2, 2));
}

#[test]
fn a_blank_text_is_a_patch_of_nothing() {
    for text in ["", "\n", "  \n\t\n"] {
        assert_eq!(parse(text.as_bytes()).unwrap().files, []);
    }
    assert_eq!(render(&[]).bytes, b"");
}
