//! Columns of `steps`.

use thresher_core::RolloutRecord;
use thresher_core::trajectory::Step;

use super::column::{Cell, Child, Column, Kind, nullable, required};

pub(super) const COLUMNS: &[Column<RolloutRecord>] = &[
    required(1, "schema_version", Kind::Int32, "Version of the table's schema.", |r, _| {
        Cell::Int(r.schema_version.into())
    }),
    required(2, "rollout_id", Kind::Text, "The rollout.", |r, _| Cell::text(r.rollout_id.as_str())),
    required(3, "step_index", Kind::Int32, "Position in the trajectory, from 0, without gaps.", |r, at| {
        Cell::Int(r.steps[at].index.into())
    }),
    nullable(
        4,
        "finish_reason",
        Kind::Text,
        "Why the model stopped: `stop`, `length`, `tool_calls`, …",
        |r, at| Cell::texts(r.steps[at].finish_reason.as_deref()),
    ),
    required(5, "prompt_tokens", Kind::Int64, "Prompt tokens of the step's calls.", |r, at| {
        Cell::count(r.steps[at].usage.prompt_tokens)
    }),
    required(6, "completion_tokens", Kind::Int64, "Reply tokens.", |r, at| {
        Cell::count(r.steps[at].usage.completion_tokens)
    }),
    required(7, "cached_tokens", Kind::Int64, "Prompt tokens that a cache served.", |r, at| {
        Cell::count(r.steps[at].usage.cached_tokens)
    }),
    required(8, "reasoning_tokens", Kind::Int64, "Reply tokens spent on reasoning.", |r, at| {
        Cell::count(r.steps[at].usage.reasoning_tokens)
    }),
    nullable(9, "cost_usd", Kind::Float64, "US dollars, where prices are known.", |r, at| {
        Cell::floats(r.steps[at].cost_usd)
    }),
    required(10, "started_at", Kind::Timestamp, "Start of the step.", |r, at| {
        Cell::Int(r.steps[at].started_at_us)
    }),
    required(11, "llm_ms", Kind::Int64, "Milliseconds waiting for the model.", |r, at| {
        Cell::count(r.steps[at].llm_ms)
    }),
    required(12, "env_ms", Kind::Int64, "Milliseconds in tools.", |r, at| Cell::count(r.steps[at].env_ms)),
    nullable(
        13,
        "format_error",
        Kind::Text,
        "The parser's complaint; null where the reply held a valid call.",
        |r, at| Cell::texts(r.steps[at].format_error.as_deref()),
    ),
    nullable(
        14,
        "user_message",
        Kind::Wide,
        "Text put in front of the model before this step, besides observations.",
        |r, at| Cell::texts(r.steps[at].user_message.as_deref()),
    ),
    nullable(
        15,
        "reasoning",
        Kind::Wide,
        "Reasoning that the provider returned apart from the content.",
        |r, at| Cell::texts(r.steps[at].reasoning.as_deref()),
    ),
    required(16, "content", Kind::Wide, "The assistant's text exactly as emitted; may be empty.", |r, at| {
        Cell::text(&r.steps[at].content)
    }),
    required(
        17,
        "tool_calls",
        Kind::Structs(18, TOOL_CALL),
        "The calls in the reply, in their order.",
        |r, at| tool_calls(&r.steps[at]),
    ),
    required(
        23,
        "observations",
        Kind::Structs(24, OBSERVATION),
        "What came back, in the order of the calls.",
        |r, at| observations(&r.steps[at]),
    ),
    required(
        32,
        "raw_reply",
        Kind::Wide,
        "The body of the model's reply as received, or put together again where it was streamed.",
        |r, at| Cell::text(&r.steps[at].raw_reply),
    ),
];

const TOOL_CALL: &[Child] = &[
    Child { id: 19, name: "id", kind: Kind::Text, doc: "The call's id." },
    Child { id: 20, name: "name", kind: Kind::Text, doc: "The tool's name." },
    Child { id: 21, name: "arguments", kind: Kind::Wide, doc: "Arguments as raw JSON text." },
    Child { id: 22, name: "arguments_valid", kind: Kind::Bool, doc: "Whether they are a JSON object." },
];

const OBSERVATION: &[Child] = &[
    Child {
        id: 25,
        name: "tool_call_id",
        kind: Kind::Text,
        doc: "The call that it answers; empty where there was none.",
    },
    Child { id: 26, name: "name", kind: Kind::Text, doc: "The tool's name; empty where there was none." },
    Child { id: 27, name: "content", kind: Kind::Wide, doc: "What the model is shown." },
    Child { id: 28, name: "is_error", kind: Kind::Bool, doc: "Whether the tool refused or failed." },
    Child {
        id: 29,
        name: "exit_code",
        kind: Kind::Int32,
        doc: "Exit code of the command, if one ran to its end.",
    },
    Child { id: 30, name: "truncated_bytes", kind: Kind::Int64, doc: "Bytes left out of the content." },
    Child { id: 31, name: "duration_ms", kind: Kind::Int64, doc: "Milliseconds that the tool took." },
];

fn tool_calls(step: &Step) -> Cell<'_> {
    let calls = step.tool_calls.iter().map(|call| {
        vec![
            Cell::text(&call.id),
            Cell::text(&call.name),
            Cell::text(&call.arguments),
            Cell::Bool(call.arguments_valid),
        ]
    });
    Cell::Structs(calls.collect())
}

fn observations(step: &Step) -> Cell<'_> {
    let observations = step.observations.iter().map(|seen| {
        vec![
            Cell::text(&seen.tool_call_id),
            Cell::text(&seen.name),
            Cell::text(&seen.content),
            Cell::Bool(seen.is_error),
            Cell::counts(seen.exit_code),
            Cell::count(seen.truncated_bytes),
            Cell::count(seen.duration_ms),
        ]
    });
    Cell::Structs(observations.collect())
}
