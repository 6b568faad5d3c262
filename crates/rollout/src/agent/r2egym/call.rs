//! From a model's reply to one call: native tool calls, or XML in the text.

use serde_json::{Map, Value};
use thresher_core::trajectory::{ToolCall, ToolMode};

use crate::llm::ChatReply;

/// Arguments of a call.
pub(super) type Arguments = Map<String, Value>;

/// What a reply asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reading {
    /// A call with its arguments.
    Call { call: ToolCall, arguments: Arguments },
    /// Something that was meant as a call and cannot be carried out.
    Malformed { call: Option<ToolCall>, complaint: String },
    /// No call at all.
    Nothing,
}

impl Reading {
    /// The call, if one can be named.
    pub(super) fn call(&self) -> Option<&ToolCall> {
        match self {
            Self::Call { call, .. } => Some(call),
            Self::Malformed { call, .. } => call.as_ref(),
            Self::Nothing => None,
        }
    }

    /// What is wrong with the reply's form; `None` for a valid call.
    pub(super) fn complaint(&self) -> Option<String> {
        match self {
            Self::Call { .. } => None,
            Self::Malformed { complaint, .. } => Some(complaint.clone()),
            Self::Nothing => Some("the reply holds no function call".into()),
        }
    }
}

/// Reads the first call of a reply. Further calls are not carried out: the scaffold is one call per turn.
pub(super) fn read_reply(mode: ToolMode, reply: &ChatReply, index: u32) -> Reading {
    match mode {
        ToolMode::Native => reply.tool_calls.first().map_or(Reading::Nothing, read_native),
        ToolMode::XmlText => read_xml(&reply.content, index),
    }
}

fn read_native(call: &ToolCall) -> Reading {
    match serde_json::from_str::<Value>(&call.arguments) {
        Ok(Value::Object(arguments)) => Reading::Call { call: call.clone(), arguments },
        Ok(_) => malformed(call, "its arguments are no JSON object".into()),
        Err(error) => malformed(call, format!("its arguments are not valid JSON ({error})")),
    }
}

fn malformed(call: &ToolCall, why: String) -> Reading {
    let complaint = format!("the call of {} could not be read: {why}", call.name);
    let call = ToolCall { arguments_valid: false, ..call.clone() };
    Reading::Malformed { call: Some(call), complaint }
}

/// Reads `<function=NAME><parameter=KEY>VALUE</parameter>…</function>`.
///
/// The last tag may be missing, because endpoints cut a stop string off. A value keeps its indentation; only one line
/// break next to each tag is dropped. It may contain `</parameter>`: it ends where the next parameter or the end is.
fn read_xml(text: &str, index: u32) -> Reading {
    let Some(start) = text.find("<function=") else { return Reading::Nothing };
    let rest = &text[start + "<function=".len()..];
    let Some((name, body)) = rest.split_once('>') else {
        return broken("the function tag is not closed");
    };
    let body = match body.find("</function>") {
        Some(end) => &body[..end],
        None => body.trim_end().trim_end_matches("</function").trim_end(),
    };
    let mut arguments = Arguments::new();
    let mut rest = body;
    while let Some(at) = rest.find("<parameter=") {
        let Some((key, tail)) = rest[at + "<parameter=".len()..].split_once('>') else {
            return broken("a parameter tag is not closed");
        };
        let next = tail.find("<parameter=").unwrap_or(tail.len());
        let Some(end) = tail[..next].rfind("</parameter>") else {
            return broken(&format!("parameter {key} has no closing tag"));
        };
        arguments.insert(key.trim().to_owned(), Value::String(one_line_break_less(&tail[..end]).to_owned()));
        rest = &tail[next..];
    }
    let call = ToolCall {
        id: format!("call_{index}"),
        name: name.trim().to_owned(),
        arguments: Value::Object(arguments.clone()).to_string(),
        arguments_valid: true,
    };
    Reading::Call { call, arguments }
}

fn broken(why: &str) -> Reading {
    Reading::Malformed { call: None, complaint: format!("the function call could not be read: {why}") }
}

fn one_line_break_less(value: &str) -> &str {
    let value = value.strip_prefix('\n').unwrap_or(value);
    value.strip_suffix('\n').unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xml(text: &str) -> Reading {
        read_reply(ToolMode::XmlText, &ChatReply { content: text.into(), ..ChatReply::default() }, 3)
    }

    fn arguments(reading: &Reading) -> Vec<(String, String)> {
        let Reading::Call { arguments, .. } = reading else { panic!("no call: {reading:?}") };
        arguments.iter().map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())).collect()
    }

    #[test]
    fn xml_calls() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("hm\n<function=f>\n<parameter=a>1</parameter>\n</function>", &[("a", "1")]),
            ("<function=f><parameter=a>\n    x\n\n</parameter></function>", &[("a", "    x\n")]),
            ("<function=f><parameter=a>1</parameter><parameter=a>2</parameter></function>", &[("a", "2")]),
            ("<function=f><parameter=a>x</parameter>y</parameter></function>", &[("a", "x</parameter>y")]),
            ("<function=f>\n<parameter=a>1</parameter>\n</function", &[("a", "1")]),
            ("<function=f>\n<parameter=a>1</parameter>\n", &[("a", "1")]),
            ("<function=f></function>", &[]),
        ];
        for (text, wanted) in cases {
            let got = arguments(&xml(text));
            let wanted: Vec<_> = wanted.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
            assert_eq!(got, wanted, "{text}");
        }
        assert_eq!(xml("<function=f></function>").call().unwrap().id, "call_3");
    }

    #[test]
    fn what_is_no_call_says_why() {
        assert_eq!(xml("no call here"), Reading::Nothing);
        for text in ["<function=f", "<function=f><parameter=a", "<function=f><parameter=a>1</function>"] {
            assert!(xml(text).complaint().unwrap().contains("could not be read"), "{text}");
        }
    }

    #[test]
    fn native_calls_take_the_first_and_check_its_arguments() {
        let call = |arguments: &str| ToolCall {
            id: "a".into(),
            name: "f".into(),
            arguments: arguments.into(),
            arguments_valid: true,
        };
        let reply = |calls| ChatReply { tool_calls: calls, ..ChatReply::default() };
        let read = |calls| read_reply(ToolMode::Native, &reply(calls), 0);
        assert!(matches!(read(vec![call("{}"), call("x")]), Reading::Call { .. }));
        assert!(read(vec![call("{")]).complaint().unwrap().contains("not valid JSON"));
        assert!(read(vec![call("[]")]).complaint().unwrap().contains("no JSON object"));
        assert!(!read(vec![call("{")]).call().unwrap().arguments_valid);
        assert_eq!(read(vec![]), Reading::Nothing);
    }
}
