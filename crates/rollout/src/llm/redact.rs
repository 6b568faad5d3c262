//! Keeps the API key out of everything that a server echoes.

use thresher_core::secret::Secret;
use thresher_core::trajectory::ToolCall;

use super::ChatReply;

/// Keys shorter than this are placeholders such as `EMPTY` or `none`: replacing them would damage replies. Errors
/// are for people, and lose even those.
const SHORTEST_KEY: usize = 12;

/// Replaces the key.
#[derive(Clone, Debug, Default)]
pub(super) struct Redactor {
    /// The key as it is, and as JSON text would hold it.
    forms: Vec<Secret>,
    placeholder: bool,
}

impl Redactor {
    pub(super) fn new(key: Option<&Secret>) -> Self {
        let Some(key) = key else { return Self::default() };
        let escaped = serde_json::Value::from(key.expose()).to_string();
        let escaped = escaped.trim_matches('"');
        let mut forms = vec![key.clone()];
        for form in [escaped.to_owned(), escaped.replace('/', "\\/")] {
            if form != key.expose() {
                forms.push(Secret::new(form));
            }
        }
        Self { forms, placeholder: key.expose().len() < SHORTEST_KEY }
    }

    /// The text without the key.
    pub(super) fn text(&self, text: &str) -> String {
        self.forms.iter().fold(text.to_owned(), |text, form| form.redact(&text))
    }

    /// The reply without the key, in all of its parts.
    pub(super) fn reply(&self, reply: &mut ChatReply) {
        if self.placeholder || self.forms.is_empty() {
            return;
        }
        let ChatReply { content, reasoning, tool_calls, finish_reason, raw, .. } = reply;
        let calls = tool_calls.iter_mut().flat_map(|call: &mut ToolCall| {
            let ToolCall { id, name, arguments, arguments_valid: _ } = call;
            [id, name, arguments]
        });
        let texts = [content, raw].into_iter().chain(reasoning).chain(finish_reason).chain(calls);
        for text in texts {
            if self.forms.iter().any(|form| text.contains(form.expose())) {
                *text = self.text(text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_leaves_every_part_of_a_reply() {
        let key = Secret::new("sk-\"1/2\"-abcdef");
        let text = format!("a {} b", key.expose());
        let escaped = serde_json::json!({ "echo": text }).to_string();
        let call = ToolCall {
            id: text.clone(),
            name: text.clone(),
            arguments: escaped.clone(),
            arguments_valid: true,
        };
        let mut reply = ChatReply {
            content: text.clone(),
            reasoning: Some(text.clone()),
            tool_calls: vec![call],
            finish_reason: Some(text),
            raw: format!("{escaped} {}", escaped.replace('/', "\\/")),
            ..ChatReply::default()
        };
        Redactor::new(Some(&key)).reply(&mut reply);
        let shown = format!("{reply:?}");
        assert!(!shown.contains("abcdef") && shown.matches("[redacted]").count() == 8, "{shown}");
    }

    #[test]
    fn a_placeholder_does_not_damage_replies() {
        let redactor = Redactor::new(Some(&Secret::new("EMPTY")));
        let reply = ChatReply { content: "the list is EMPTY".to_owned(), ..ChatReply::default() };
        let mut redacted = reply.clone();
        redactor.reply(&mut redacted);
        assert_eq!(redacted, reply);
        assert_eq!(redactor.text("no such key: EMPTY"), "no such key: [redacted]");
        assert_eq!(Redactor::new(None).text("a"), "a");
    }
}
