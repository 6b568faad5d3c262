//! A Python file as a skeleton: long function bodies and the inner lines of long class docstrings are left out.

use tree_sitter::{Node, Parser};

/// Bodies with at least this many lines are left out.
const LONG_BODY: usize = 4;
/// Class docstrings with more lines lose their inner ones.
const LONG_DOCSTRING: usize = 4;

/// Numbers the lines of `source` within `range` (lines from 1, both included) and leaves long bodies out. Numbers stay
/// those of the file. `Err` holds the line near which the syntax is wrong.
pub(super) fn skeleton(source: &str, range: Option<(usize, usize)>) -> Result<String, usize> {
    let mut parser = Parser::new();
    parser.set_language(&tree_sitter_python::LANGUAGE.into()).expect("the grammar fits the library");
    let tree = parser.parse(source, None).expect("a parser with a language and no deadline gives a tree");
    if let Some(line) = first_error(tree.root_node()) {
        return Err(line);
    }
    let mut left_out = Vec::new();
    collect(tree.root_node(), &mut left_out);
    Ok(render(source, &left_out, range))
}

fn first_error(node: Node<'_>) -> Option<usize> {
    if !node.has_error() {
        return None;
    }
    if node.is_error() || node.is_missing() {
        return Some(node.start_position().row + 1);
    }
    (0..node.child_count() as u32).filter_map(|at| node.child(at)).find_map(first_error)
}

/// Collects the line ranges (from 0, both included) to leave out. Nothing is looked for inside what is left out.
fn collect(node: Node<'_>, left_out: &mut Vec<(usize, usize)>) {
    if node.kind() == "function_definition"
        && let Some(lines) = node.child_by_field_name("body").and_then(body_lines)
    {
        left_out.push(lines);
        return;
    }
    if node.kind() == "class_definition"
        && let Some(lines) = node.child_by_field_name("body").and_then(docstring_lines)
    {
        left_out.push(lines);
    }
    for at in 0..node.child_count() as u32 {
        if let Some(child) = node.child(at) {
            collect(child, left_out);
        }
    }
}

fn body_lines(body: Node<'_>) -> Option<(usize, usize)> {
    let (first, last) = (body.start_position().row, body.end_position().row);
    let on_its_own_line = body.parent().is_some_and(|function| function.start_position().row < first);
    (on_its_own_line && last + 1 - first >= LONG_BODY).then_some((first, last))
}

fn docstring_lines(body: Node<'_>) -> Option<(usize, usize)> {
    let statement = body.named_child(0)?;
    let text = if statement.kind() == "expression_statement" { statement.named_child(0)? } else { statement };
    let (first, last) = (text.start_position().row, text.end_position().row);
    (text.kind() == "string" && last + 1 - first > LONG_DOCSTRING).then(|| (first + 1, last - 1))
}

fn render(source: &str, left_out: &[(usize, usize)], range: Option<(usize, usize)>) -> String {
    let lines: Vec<&str> = source.split('\n').collect();
    let (first, last) = range.map_or((0, lines.len() - 1), |(first, last)| (first - 1, last - 1));
    let mut shown = Vec::new();
    let mut at = first;
    while at <= last {
        match left_out.iter().find(|(from, to)| (*from..=*to).contains(&at)) {
            Some((from, to)) => {
                shown.push(format!("{:6} ... eliding lines {}-{} ...", at + 1, from + 1, to + 1));
                at = to + 1;
            }
            None => {
                shown.push(format!("{:6} {}", at + 1, lines[at]));
                at += 1;
            }
        }
    }
    shown.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"import os

class A:
    """First.

    Second.

    Third.
    """

    def short(self):
        return 1

    @property
    def long(self):
        a = 1
        b = 2
        c = 3
        return a

async def f(x): return x
"#;

    #[test]
    fn long_bodies_and_docstrings_are_left_out_with_their_numbers() {
        let shown = skeleton(SOURCE, None).unwrap();
        for line in [
            "     4     \"\"\"First.",
            "     5 ... eliding lines 5-8 ...",
            "     9     \"\"\"",
            "    12         return 1",
            "    15     def long(self):",
            "    16 ... eliding lines 16-19 ...",
            "    21 async def f(x): return x",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
        }
    }

    #[test]
    fn a_range_keeps_the_file_s_numbers() {
        assert_eq!(
            skeleton(SOURCE, Some((11, 16))).unwrap(),
            "    11     def short(self):\n    12         return 1\n    13 \n    14     @property\n    15     def long(self):\n    16 ... eliding lines 16-19 ..."
        );
    }

    #[test]
    fn syntax_errors_are_reported() {
        assert_eq!(skeleton("x = 1\ndef f(:\n    pass\n", None), Err(2));
        assert!(skeleton("", None).is_ok());
    }
}
