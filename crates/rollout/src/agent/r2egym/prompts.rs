//! The versioned texts of the scaffold. Whoever changes a file below `prompts/` changes the version by its hash.

use thresher_core::Sha256Hex;
use thresher_core::trajectory::ToolMode;

use crate::agent::Prompts;

const SYSTEM: &str = include_str!("prompts/system.md");
const SYSTEM_XML: &str = include_str!("prompts/system_xml.md");
const TASK: &str = include_str!("prompts/task.md");
const TOOLS: &str = include_str!("prompts/tools.json");

/// Name of the scaffold with the hash of its texts.
pub(super) fn version(mode: ToolMode) -> String {
    let texts = match mode {
        ToolMode::Native => [SYSTEM, TASK, TOOLS],
        ToolMode::XmlText => [SYSTEM_XML, TASK, ""],
    };
    let hash = Sha256Hex::of(texts.join("\0").as_bytes());
    format!("r2egym-1-{}", &hash.as_str()[..12])
}

/// Fills the texts in. A statement that contains placeholders is not filled in again.
pub(super) fn render(mode: ToolMode, statement: &str, workdir: &str) -> Prompts {
    let (system, tools) = match mode {
        ToolMode::Native => (SYSTEM, Some(TOOLS)),
        ToolMode::XmlText => (SYSTEM_XML, None),
    };
    let task = TASK.replace("{workdir}", workdir).replace("{problem_statement}", statement.trim());
    Prompts {
        system: system.replace("{workdir}", workdir).trim_end().to_owned(),
        task: task.trim_end().to_owned(),
        tools: tools.map(compact),
    }
}

fn compact(json: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).expect("the shipped tool definitions are JSON");
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_is_put_in_as_it_is() {
        let prompts = render(ToolMode::Native, "uses {workdir} and {problem_statement}", "/repo");
        assert!(
            prompts.task.contains("uses {workdir} and {problem_statement}\n</github_issue>"),
            "{}",
            prompts.task
        );
        assert!(prompts.task.starts_with("The folder /repo holds"));
        let tools: serde_json::Value = serde_json::from_str(&prompts.tools.unwrap()).unwrap();
        assert_eq!(tools.as_array().unwrap().len(), 4);
    }

    #[test]
    fn text_mode_describes_the_tools_in_the_system_prompt() {
        let prompts = render(ToolMode::XmlText, "x", "/repo");
        assert!(prompts.tools.is_none() && prompts.system.contains("BEGIN FUNCTION #4: finish"));
        assert!(!prompts.system.contains("{workdir}"));
        assert_ne!(version(ToolMode::Native), version(ToolMode::XmlText));
    }
}
