//! File operations, as tools and grading use them.

use super::{Shown, Subject, bash, holds, same, still_answers, text};
use crate::error::FileErrorKind;
use crate::{CommandEnd, EntryKind, FileMode, SandboxError, SnapshotEntry};

/// What the host writes, commands see, and the other way round.
pub async fn files_come_back(subject: &Subject<'_>) -> Shown {
    let mut sandbox = subject.start().await?;
    let folder = sandbox.workdir().to_owned();
    let large: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
    let path = format!("{folder}/deep/er/large");
    sandbox.write(&path, &large, FileMode::Executable).await?;
    let output = sandbox.run(&bash("stat -c '%s %a' deep/er/large; ls -A deep/er").cwd(&folder)).await?;
    same("the written file", text(&output), format!("{} 755\nlarge\n", large.len()))?;
    holds(sandbox.read(&path, large.len() as u64).await? == large, || "other bytes were read".into())?;
    match sandbox.read(&path, 100).await {
        Err(SandboxError::File { kind: FileErrorKind::TooLarge, .. }) => {}
        other => return Err(super::Deviation(format!("a file over the limit gave {other:?}"))),
    }
    sandbox.symlink(&format!("{folder}/link"), b"deep/er/large").await?;
    let large_file = Some((EntryKind::File, large.len() as u64));
    same("what a link points to", sandbox.stat(&format!("{folder}/link")).await?, large_file)?;
    let listed = sandbox.list(&folder, 2, true, 10).await?;
    let listed: Vec<&str> = listed.iter().map(|entry| &entry.path[..]).collect();
    same("the listing", listed, vec!["deep", "deep/er", "link"])?;
    sandbox.remove(&format!("{folder}/deep")).await?;
    same("what was removed", sandbox.stat(&path).await?, None)?;
    still_answers(sandbox).await
}

/// A folder that is read out and put into another sandbox is the same there.
pub async fn archives_come_back(subject: &Subject<'_>) -> Shown {
    let mut sandbox = subject.start().await?;
    let folder = sandbox.workdir().to_owned();
    let make =
        "mkdir -p in/sub in/empty; echo x > in/sub/tool; chmod 750 in/sub/tool; ln -s sub/tool in/link";
    sandbox.run(&bash(make).cwd(&folder)).await?;
    let tar = sandbox.archive(&format!("{folder}/in"), 1 << 20).await?;
    sandbox.close().await?;
    let mut other = subject.start().await?;
    let folder = other.workdir().to_owned();
    other.unarchive(&format!("{folder}/out"), &tar).await?;
    let look =
        "cd out; stat -c '%a' sub/tool; readlink link; cat link; find . | LC_ALL=C sort | tr '\\n' ' '";
    let output = other.run(&bash(look).cwd(&folder)).await?;
    same(
        "the other sandbox's folder",
        text(&output),
        "750\nsub/tool\nx\n. ./empty ./link ./sub ./sub/tool ".into(),
    )?;
    still_answers(other).await
}

/// A snapshot has the blob ids that git would give, and a second one shows what a command changed.
pub async fn snapshots_see_changes(subject: &Subject<'_>) -> Shown {
    let mut sandbox = subject.start().await?;
    let folder = sandbox.workdir().to_owned();
    let make = "mkdir tree; cd tree; echo hello > a; printf '*.o\\n' > .gitignore; echo x > b.o; ln -s a link; mkdir d";
    sandbox.run(&bash(make).cwd(&folder)).await?;
    let tree = format!("{folder}/tree");
    let before = sandbox.snapshot(&tree).await?;
    same("the paths", paths(&before), ".gitignore a link".into())?;
    // What `echo hello | git hash-object --stdin` prints.
    let hello = [
        0xce, 0x01, 0x36, 0x25, 0x03, 0x0b, 0xa8, 0xdb, 0xa9, 0x06, 0xf7, 0x56, 0x96, 0x7f, 0x9e, 0x9c, 0xa3,
        0x94, 0x46, 0x4a,
    ];
    same("the blob of a", before[1].blob, hello)?;
    let change = "echo hullo > a; touch -d @0 a; echo new > d/c; rm link; chmod 600 .gitignore";
    let output = sandbox.run(&bash(change).cwd(&tree)).await?;
    same("the change", output.end, CommandEnd::Exited(0))?;
    let after = sandbox.snapshot(&tree).await?;
    same("the paths after the change", paths(&after), ".gitignore a d/c".into())?;
    holds(after[1].blob != hello, || "a change of the same size and an old time was missed".into())?;
    same("the unchanged file", &after[0], &before[0])?;
    let contents = sandbox.read_many(&tree, &[b"d/c".to_vec(), b"a".to_vec()]).await?;
    same("the contents", contents.concat(), b"new\nhullo\n".to_vec())?;
    still_answers(sandbox).await
}

fn paths(entries: &[SnapshotEntry]) -> String {
    let paths = entries.iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned());
    paths.collect::<Vec<_>>().join(" ")
}
