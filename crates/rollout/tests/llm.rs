//! The model client against the strict scripted server: what each way to go wrong turns into.

#[path = "llm/ends.rs"]
mod ends;
#[path = "llm/replies.rs"]
mod replies;
#[path = "llm/setbacks.rs"]
mod setbacks;
#[path = "llm/setup.rs"]
mod setup;
#[path = "llm/support.rs"]
mod support;
