//! Small inline tasks, and what an agent says to them.

use serde_json::{Value, json};

use super::Home;

/// One row of an inline dataset. The default is a task whose tests source `answer.sh` and want 42 from it.
pub(crate) struct Row {
    value: Value,
    /// What the scripted model calls, one call a step.
    calls: Vec<Value>,
}

/// Prints one TAP line: whether the answer is 42, and whether a neighbour still works.
const TESTS: &str = "\
cd /testbed 2>/dev/null || true
. ./answer.sh
check() { if [ \"$1\" = \"$2\" ]; then echo \"ok $3\"; else echo \"not ok $3\"; fi; }
check \"$(answer)\" 42 '1 answer'
check \"$(cat neighbour.txt)\" fine '2 neighbour'
echo 1..2
";

/// The repository's files: path and content.
pub(crate) fn files() -> [(&'static str, String); 2] {
    [("answer.sh", format!("{WRONG}\n")), ("neighbour.txt", "fine\n".to_owned())]
}

/// The line of `answer.sh` that is wrong.
const WRONG: &str = "answer() { echo 41; }";
/// And the right one.
pub(crate) const RIGHT: &str = "answer() { echo 42; }";

impl Row {
    /// A task that the oracle solves and the null agent does not.
    pub(crate) fn new(id: &str) -> Self {
        let value = json!({
            "instance_id": id,
            "repo": "small/answer",
            "problem_statement": format!("answer.sh says 41, and 42 is wanted ({id})."),
            "files": serde_json::Map::from_iter(files().map(|(path, content)| (path.to_owned(), content.into()))),
            "test_files": { "tests/answer.t": TESTS },
            "test_command": "bash tests/answer.t",
            "log_parser": "tap",
            "FAIL_TO_PASS": ["answer"],
            "PASS_TO_PASS": ["neighbour"],
        });
        Self { value, calls: Vec::new() }.patch(RIGHT)
    }

    /// The gold patch puts this text in place of the wrong line.
    pub(crate) fn patch(mut self, text: &str) -> Self {
        let text = text.trim_end();
        let added: String = text.lines().map(|line| format!("+{line}\n")).collect();
        self.value["patch"] = json!(format!(
            "diff --git a/answer.sh b/answer.sh\n--- a/answer.sh\n+++ b/answer.sh\n@@ -1 +1,{} @@\n-{WRONG}\n{added}",
            text.lines().count()
        ));
        self
    }

    fn set(mut self, column: &str, value: impl Into<Value>) -> Self {
        self.value[column] = value.into();
        self
    }

    /// The same task as a SWE-bench row, whose repository is in an image. `before` runs before the tests do.
    pub(crate) fn in_image(mut self, image: &str, before: &str) -> Self {
        let (start, end) = (">>>>> Start Test Output", ">>>>> End Test Output");
        let script = format!(
            "#!/bin/bash\nset -u\ncd /testbed\nmkdir -p tests\ncat > tests/answer.t <<'EOF_TESTS'\n{TESTS}EOF_TESTS\n\
             : '{start}'\n{before}\nbash tests/answer.t\n: '{end}'\n"
        );
        let row = self.value.as_object_mut().unwrap();
        row.retain(|column, _| !matches!(column.as_str(), "files" | "test_files" | "test_command"));
        self.set("image", image).set("eval_script", script)
    }

    /// The scripted model runs a command as its next step.
    pub(crate) fn bash(mut self, command: &str) -> Self {
        self.calls.push(json!({ "name": "execute_bash", "arguments": { "cmd": command } }));
        self
    }

    /// The id.
    pub(crate) fn id(&self) -> &str {
        self.value["instance_id"].as_str().unwrap()
    }

    fn replies(&self) -> impl Iterator<Item = String> {
        let finish = json!({ "name": "finish", "arguments": { "command": "submit" } });
        let calls = self.calls.iter().cloned().chain([finish]).enumerate();
        calls.map(|(step, call)| {
            let reply = json!({ "content": "Next.", "tool_calls": [call] });
            json!({ "instance_id": self.id(), "step": step, "reply": reply }).to_string() + "\n"
        })
    }
}

/// Writes the rows as `NAME.jsonl`, the scripted model's replies beside it, and a job file over both with `extra`
/// lines of YAML. Returns the job file's path.
pub(crate) fn job(home: &Home, name: &str, rows: &[Row], extra: &str) -> String {
    let lines: String = rows.iter().map(|row| format!("{}\n", row.value)).collect();
    let replies: String = rows.iter().flat_map(Row::replies).collect();
    home.write(&format!("{name}.jsonl"), lines);
    home.write(&format!("{name}.replies.jsonl"), replies);
    let model = if extra.contains("model:") {
        String::new()
    } else {
        format!("model: {{ name: scripted, replay: {name}.replies.jsonl }}\n")
    };
    home.write(&format!("{name}.yaml"), format!("dataset: {{ path: {name}.jsonl }}\n{model}{extra}"))
}
