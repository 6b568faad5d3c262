//! What an endpoint's refusal means: from status and body to what to do.
//!
//! | answer | meaning |
//! |---|---|
//! | any, and the text says that the prompt is too long | `Overflow` |
//! | 401, 402, 403, 404, 405, 410, 501, redirects, a spent quota, a wrong key | `Configuration` |
//! | 408, 409, 425, 429, other 5xx | `Retry` |
//! | 400, 413, 422 and the rest | `Refused` |

use serde_json::Value;

/// Characters of a server's text that go into a message.
const EXCERPT: usize = 500;

/// Codes that say the prompt is too long.
const OVERFLOW_CODES: [&str; 4] = [
    "context_length_exceeded",
    "context_window_exceeded",
    "model_context_window_exceeded",
    "exceed_context_size_error",
];

/// Phrases, in lower case, that say so where the code does not; beside each the servers that use it.
const OVERFLOW_PHRASES: [&str; 22] = [
    "context_length_exceeded",            // gateways that hand OpenAI's error on as text
    "contextwindowexceedederror",         // LiteLLM
    "maximum context length",             // OpenAI, vLLM, DeepSeek, Mistral, OpenRouter
    "maximum model length",               // vLLM
    "fit into the model (context length", // vLLM, older
    "longer than the model's context length", // SGLang
    "exceeds the model's context",        // SGLang, Together
    "exceeds the available context size", // llama.cpp
    "context size has been exceeded",     // llama.cpp, LM Studio
    "greater than the context length",    // LM Studio
    "exceed context window",              // llama-cpp-python
    "exceeds the context window",         // OpenAI's newer models
    "exceed context limit",               // Anthropic: input and max_tokens together
    "prompt is too long",                 // Anthropic, Fireworks
    "input is too long for requested model", // Bedrock
    "exceeds the maximum number of tokens", // Gemini
    "maximum prompt length",              // xAI
    "reduce the length of the messages",  // Groq
    "`inputs` tokens + `max_new_tokens` must", // TGI
    "exceeds maximum input length",       // TensorRT-LLM
    "exceeded model token limit",         // Moonshot
    "exceeds the maximum allowed input length", // gateways
];

/// Codes of errors that no retry helps and that are the user's to mend, whatever their status.
const CONFIGURATION_CODES: [&str; 5] =
    ["insufficient_quota", "invalid_api_key", "model_not_found", "billing_not_active", "account_deactivated"];

/// What to do about an answer that is no reply. The text is for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    /// The conversation is too long.
    Overflow(String),
    /// The conversation is not acceptable.
    Refused(String),
    /// The user must mend something.
    Configuration(String),
    /// It may pass.
    Retry {
        /// What was seen.
        reason: String,
        /// Whether the endpoint asks for less load.
        overloaded: bool,
    },
}

/// Judges an answer with a status other than success.
pub(super) fn judge(status: u16, body: &str) -> Rejection {
    match serde_json::from_str::<Value>(body) {
        Ok(value) => judge_parts(Some(status), &codes(&value), &describe(&value), body),
        Err(_) => judge_parts(Some(status), &[], &excerpt(body), body),
    }
}

/// Judges an error object that came with status 200, in a body or in a stream.
pub(super) fn judge_error(error: &Value) -> Rejection {
    let wrapped = serde_json::json!({ "error": error });
    let status = error.get("code").and_then(status_of).or_else(|| error.get("status").and_then(status_of));
    judge_parts(status, &codes(&wrapped), &describe(&wrapped), &error.to_string())
}

/// `text` is searched for phrases; `said` is what a person reads.
fn judge_parts(status: Option<u16>, codes: &[String], said: &str, text: &str) -> Rejection {
    let reason = match (status, said.is_empty()) {
        (Some(status), false) => format!("HTTP {status}: {said}"),
        (Some(status), true) => format!("HTTP {status} without a text"),
        (None, _) => format!("the endpoint sent an error: {said}"),
    };
    if is_overflow(codes, text) {
        return Rejection::Overflow(reason);
    }
    if codes.iter().any(|code| CONFIGURATION_CODES.contains(&code.as_str())) || is_wrong_key(text) {
        return Rejection::Configuration(reason);
    }
    match status {
        Some(401..=405 | 410 | 501 | 300..=399) => Rejection::Configuration(reason),
        Some(429 | 503 | 529) => Rejection::Retry { reason, overloaded: true },
        // An error without status came after the endpoint had accepted the request, so it is the endpoint's.
        None | Some(408 | 409 | 425 | 500..=599) => Rejection::Retry { reason, overloaded: false },
        Some(_) => Rejection::Refused(reason),
    }
}

fn is_overflow(codes: &[String], text: &str) -> bool {
    let text = text.to_lowercase();
    codes.iter().any(|code| OVERFLOW_CODES.contains(&code.as_str()))
        || OVERFLOW_PHRASES.iter().any(|phrase| text.contains(phrase))
}

/// Some endpoints answer 400 to a wrong key.
fn is_wrong_key(text: &str) -> bool {
    let text = text.to_lowercase();
    text.contains("api key not valid") || text.contains("incorrect api key")
}

/// The words that name the error's kind.
fn codes(body: &Value) -> Vec<String> {
    ["/error/code", "/error/type", "/code", "/type"]
        .iter()
        .filter_map(|path| body.pointer(path)?.as_str().map(str::to_lowercase))
        .collect()
}

/// The sentence for a person: OpenAI's `error.message`, or where other servers put it.
fn describe(body: &Value) -> String {
    let sentence = ["/error/message", "/error", "/message", "/detail"]
        .iter()
        .find_map(|path| body.pointer(path)?.as_str().filter(|text| !text.is_empty()));
    // A gateway's own message says little; what its provider answered is beside it.
    let upstream = body.pointer("/error/metadata/raw").map(text_of);
    match (sentence, upstream) {
        (Some(sentence), Some(upstream)) => excerpt(&format!("{sentence}: {upstream}")),
        (Some(sentence), None) => excerpt(sentence),
        (None, _) => excerpt(&body.to_string()),
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// An HTTP status in a code field: a number, or a number as text.
fn status_of(value: &Value) -> Option<u16> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    u16::try_from(number).ok().filter(|status| (400..600).contains(status))
}

/// The start of a server's text, on one line.
pub(super) fn excerpt(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kind(rejection: &Rejection) -> &'static str {
        match rejection {
            Rejection::Overflow(_) => "overflow",
            Rejection::Refused(_) => "refused",
            Rejection::Configuration(_) => "configuration",
            Rejection::Retry { overloaded: true, .. } => "overloaded",
            Rejection::Retry { overloaded: false, .. } => "retry",
        }
    }

    #[test]
    fn statuses() {
        let table = [
            ("configuration", &[301, 307, 401, 402, 403, 404, 405, 410, 501][..]),
            ("retry", &[408, 409, 425, 500, 502, 504, 520]),
            ("overloaded", &[429, 503, 529]),
            ("refused", &[400, 406, 413, 415, 422, 451]),
        ];
        for (expected, statuses) in table {
            for status in statuses {
                let body = r#"{"error": {"message": "no"}}"#;
                assert_eq!(kind(&judge(*status, body)), expected, "{status}");
            }
        }
    }

    #[test]
    fn overflow_in_the_words_of_the_servers() {
        let table = [
            (400, json!({ "error": { "message": "too long", "code": "context_length_exceeded" } })),
            (
                400,
                json!({ "object": "error", "type": "BadRequestError", "code": 400, "message":
                "This model's maximum context length is 16384 tokens. However, you requested 122946 tokens." }),
            ),
            (
                400,
                json!({ "error": { "message": "The decoder prompt (length 9) is longer than the maximum model length of 4." } }),
            ),
            (
                400,
                json!({ "object": "error", "message":
                "The input (691793 tokens) is longer than the model's context length (540000 tokens)." }),
            ),
            (400, json!({ "error": { "code": 400, "type": "exceed_context_size_error", "message": "no" } })),
            (
                500,
                json!({ "error": { "code": 500, "message": "the request exceeds the available context size" } }),
            ),
            (413, json!({ "error": "prompt is too long: 210000 tokens > 200000 maximum" })),
            (
                422,
                json!({ "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096" }),
            ),
        ];
        for (status, body) in table {
            assert_eq!(kind(&judge(status, &body.to_string())), "overflow", "{body}");
        }
        let plain = "This model's maximum context length is 8192 tokens.";
        assert_eq!(judge(400, plain), Rejection::Overflow(format!("HTTP 400: {plain}")));
    }

    #[test]
    fn texts_that_change_what_a_status_means() {
        let table = [
            (429, json!({ "error": { "message": "pay", "code": "insufficient_quota" } }), "configuration"),
            (
                400,
                json!({ "error": { "message": "API key not valid. Please pass a valid one." } }),
                "configuration",
            ),
            (
                400,
                json!({ "error": { "message": "unknown field", "type": "invalid_request_error" } }),
                "refused",
            ),
            (
                429,
                json!({ "error": { "message": "limit of 200000 tokens per minute reached" } }),
                "overloaded",
            ),
        ];
        for (status, body, expected) in table {
            assert_eq!(kind(&judge(status, &body.to_string())), expected, "{body}");
        }
    }

    #[test]
    fn errors_with_status_200() {
        let table = [
            (json!({ "code": 502, "message": "upstream" }), "retry"),
            (json!({ "code": "429", "message": "slow down" }), "overloaded"),
            (json!({ "code": 400, "message": "bad" }), "refused"),
            (json!({ "message": "engine died" }), "retry"),
            (json!("engine died"), "retry"),
            (json!({ "message": "m", "code": "context_length_exceeded" }), "overflow"),
        ];
        for (error, expected) in table {
            assert_eq!(kind(&judge_error(&error)), expected, "{error}");
        }
    }

    #[test]
    fn a_person_reads_a_sentence() {
        let long = "é".repeat(EXCERPT + 1);
        let table = [
            (r#"{"error": {"message": "no\n  such"}}"#.to_owned(), "HTTP 400: no such".to_owned()),
            (r#"{"detail": "field"}"#.to_owned(), "HTTP 400: field".to_owned()),
            (
                r#"{"error": {"message": "p", "metadata": {"raw": "q"}}}"#.to_owned(),
                "HTTP 400: p: q".to_owned(),
            ),
            ("<html>\nno</html>".to_owned(), "HTTP 400: <html> no</html>".to_owned()),
            (String::new(), "HTTP 400 without a text".to_owned()),
            (long.clone(), format!("HTTP 400: {}…", "é".repeat(EXCERPT))),
        ];
        for (body, expected) in table {
            assert_eq!(judge(400, &body), Rejection::Refused(expected));
        }
    }
}
