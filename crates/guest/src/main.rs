//! The helper that is the first process of every sandbox.
//!
//! It speaks the protocol of [`thresher_guest`] over its standard input and output, one request at a time, in one
//! thread. As PID 1 of its namespace it is out of reach for `kill -9 -1`; it is not dumpable, so that nothing inside
//! can open its descriptors or trace it. When its standard input ends it kills everything and exits.
//!
//! Started with the argument `launch` it is the launcher instead, which makes the namespaces first and then starts
//! itself inside. With `pod` the host comes and goes by relays, each of them this program with `relay`;
//! `install` puts the program on the volume from which a pod's environment starts it. Started where there is no PID namespace it does the same for its own descendants, as their subreaper.

mod bundle;
mod capture;
mod failure;
mod files;
mod install;
mod kill;
mod link;
mod listing;
mod pod;
mod processes;
mod relay;
mod run;
mod search;
mod serve;
mod setup;
mod snapshot;
mod spawn;
mod sys;
mod wire;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("install") => install::main(arguments.next().as_deref()),
        Some("launch") => thresher_guest::launch::main(),
        Some("pod") => pod::main(arguments),
        Some("relay") => relay::main(arguments.next().as_deref()),
        _ => serve::serve(wire::Wire::pipes),
    }
}
