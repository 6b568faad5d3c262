//! Claims: one compare-and-swap register per shard that says who works on it.
//!
//! A claim saves work and decides nothing: what a rollout's result is, only its result object says. It holds no
//! time; when a holder counts as gone is for its observers to say (see `heartbeat.rs`).

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use thresher_core::{RolloutId, ShardId};
use thresher_store::{ChangeTag, ObjectPath};

use crate::heartbeat::Incarnation;
use crate::layout::Layout;
use crate::log::READS;
use crate::register::{Seen, Swap};
use crate::{Ledger, LedgerError};

/// What a claim's object holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Content {
    /// Fencing number: goes up whenever the shard gets a holder.
    epoch: u64,
    standing: Standing,
    /// Attempts that were in flight when their worker was lost.
    lost: Vec<LostAttempt>,
}

/// Who has a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// This start of a worker process works on it.
    Held(Incarnation),
    /// Nobody: its holder gave it back unfinished.
    Released,
    /// Worked through in this round of the run; so many of its rollouts have no result.
    Finished {
        /// The round, see [`crate::Control::round`].
        round: u32,
        /// Rollouts whose last attempt faulted.
        open: u32,
    },
}

/// An attempt that ended with its worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostAttempt {
    /// The rollout.
    pub rollout: RolloutId,
    /// Which attempt.
    pub attempt: u32,
    /// The attempt's nonce.
    pub nonce: String,
    /// The worker.
    pub worker: Incarnation,
    /// The round of the run that it worked in.
    pub round: u32,
}

/// A claim as it was read or written: what a next write is conditioned on.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    shard: ShardId,
    seen: Seen<Content>,
}

impl Claim {
    /// The shard.
    pub fn shard(&self) -> &ShardId {
        &self.shard
    }

    /// The fencing number.
    pub fn epoch(&self) -> u64 {
        self.seen.content.epoch
    }

    /// Who has the shard.
    pub fn standing(&self) -> &Standing {
        &self.seen.content.standing
    }

    /// Attempts whose worker was lost.
    pub fn lost(&self) -> &[LostAttempt] {
        &self.seen.content.lost
    }

    /// How many workers `rollout` was in flight on when they were lost, in `round`.
    pub fn workers_lost_by(&self, rollout: &RolloutId, round: u32) -> usize {
        self.lost().iter().filter(|lost| lost.rollout == *rollout && lost.round == round).count()
    }
}

/// What trying to get a shard gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Claiming {
    /// It is ours.
    Held(Claim),
    /// Another worker has it.
    Taken(Claim),
    /// There is nothing to do in it in this round.
    Finished(Claim),
}

/// What giving a shard back did.
#[derive(Clone, Debug, PartialEq)]
pub enum Release {
    /// It is given back; the claim as it is now.
    Done(Claim),
    /// It was not ours any more: another worker has taken it over.
    Fenced,
}

impl Ledger {
    /// Tries to get a shard (protocol: C1 to C4) that nobody has, or that has open rollouts of an earlier round.
    pub async fn claim(
        &self,
        shard: &ShardId,
        by: &Incarnation,
        round: u32,
    ) -> Result<Claiming, LedgerError> {
        let content = Content { epoch: 1, standing: Standing::Held(by.clone()), lost: Vec::new() };
        match self.create_register(&self.layout.claim(shard)?, content).await? {
            Swap::Won(seen) => Ok(Claiming::Held(Claim { shard: shard.clone(), seen })),
            Swap::Lost(seen) => self.claim_seen(Claim { shard: shard.clone(), seen }, by, round).await,
        }
    }

    /// The same where the claim was read before.
    pub async fn claim_seen(
        &self,
        mut claim: Claim,
        by: &Incarnation,
        round: u32,
    ) -> Result<Claiming, LedgerError> {
        loop {
            match claim.standing() {
                Standing::Held(holder) if holder == by => return Ok(Claiming::Held(claim)),
                Standing::Held(_) => return Ok(Claiming::Taken(claim)),
                Standing::Released => {}
                // A new round is an operator's word to try again.
                Standing::Finished { round: last, open } if *open > 0 && *last < round => {}
                Standing::Finished { .. } => return Ok(Claiming::Finished(claim)),
            }
            let lost = claim.lost().to_vec();
            claim = match self.hand(&claim, by, lost).await? {
                Swap::Won(seen) => return Ok(Claiming::Held(Claim { seen, ..claim })),
                Swap::Lost(seen) => Claim { seen, ..claim },
            };
        }
    }

    /// Takes a shard from a holder that counts as gone (protocol: T2), noting which of its attempts were in flight.
    /// [`Claiming::Taken`] if somebody, the old holder included, has written the claim since it was `seen`.
    pub async fn take_over(
        &self,
        seen: &Claim,
        in_flight: &[LostAttempt],
        by: &Incarnation,
    ) -> Result<Claiming, LedgerError> {
        let mut lost = seen.lost().to_vec();
        for attempt in in_flight {
            if !lost.iter().any(|known| known.nonce == attempt.nonce) {
                lost.push(attempt.clone());
            }
        }
        let shard = seen.shard.clone();
        Ok(match self.hand(seen, by, lost).await? {
            Swap::Won(seen) => Claiming::Held(Claim { shard, seen }),
            Swap::Lost(seen) => match seen.content.standing {
                Standing::Finished { .. } => Claiming::Finished(Claim { shard, seen }),
                _ => Claiming::Taken(Claim { shard, seen }),
            },
        })
    }

    /// Gives a shard back with work left in it (protocol: C5).
    pub async fn release(&self, claim: &Claim) -> Result<Release, LedgerError> {
        self.give_back(claim, Standing::Released).await
    }

    /// Gives a shard back as worked through (protocol: C5): each of its rollouts has a result, but for `open` ones whose
    /// last attempt faulted.
    pub async fn finish(&self, claim: &Claim, round: u32, open: u32) -> Result<Release, LedgerError> {
        self.give_back(claim, Standing::Finished { round, open }).await
    }

    /// Whether the claim is still the one that was won (protocol: H4).
    pub async fn still_held(&self, claim: &Claim) -> Result<bool, LedgerError> {
        let found = self.read_claim(&claim.shard).await?;
        Ok(found.is_some_and(|found| {
            found.epoch() == claim.epoch() && matches!(found.standing(), Standing::Held(_))
        }))
    }

    /// Reads a shard's claim; `None` if nobody has ever claimed it.
    pub async fn read_claim(&self, shard: &ShardId) -> Result<Option<Claim>, LedgerError> {
        let seen = self.read_register(&self.layout.claim(shard)?).await?;
        Ok(seen.map(|seen| Claim { shard: shard.clone(), seen }))
    }

    /// Reads many claims; those of shards that nobody has ever claimed are left out.
    pub async fn read_claims(&self, shards: Vec<ShardId>) -> Result<Vec<Claim>, LedgerError> {
        let reads = stream::iter(shards).map(|shard| async move { self.read_claim(&shard).await });
        let found: Vec<Option<Claim>> = reads.buffered(READS).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// The shards that were ever claimed, with a tag that changes with the claim: one listing, no body is read.
    pub async fn claimed_shards(&self) -> Result<Vec<(ShardId, ChangeTag)>, LedgerError> {
        let listed = self.store.list(&self.layout.folder("claims/"), None).await?;
        let shards = listed
            .into_iter()
            .filter_map(|object| Some((self.layout.parse_claim(&object.path)?, object.tag)));
        Ok(shards.collect())
    }

    /// The sealing of a round of a run, as far as `segment` of its plan goes, is claimed like a shard, so that one worker
    /// does it.
    pub fn sealing(segment: u32, round: u32) -> ShardId {
        ShardId::new(format!("seal-{segment}-{round}"))
    }

    /// Whether all shards of the plan up to `segment` are finished in this round, and the run was sealed after that.
    pub async fn is_over(&self, segment: u32, round: u32) -> Result<bool, LedgerError> {
        let claim = self.read_claim(&Self::sealing(segment, round)).await?;
        Ok(claim.is_some_and(|claim| matches!(claim.standing(), Standing::Finished { .. })))
    }

    async fn give_back(&self, claim: &Claim, standing: Standing) -> Result<Release, LedgerError> {
        let next = Content { standing, ..claim.seen.content.clone() };
        Ok(match self.swap_register(&self.layout.claim(&claim.shard)?, &claim.seen, next).await? {
            Swap::Won(seen) => Release::Done(Claim { shard: claim.shard.clone(), seen }),
            Swap::Lost(_) => Release::Fenced,
        })
    }

    /// Gives a shard a new holder under the next epoch.
    async fn hand(
        &self,
        claim: &Claim,
        to: &Incarnation,
        lost: Vec<LostAttempt>,
    ) -> Result<Swap<Content>, LedgerError> {
        let next = Content { epoch: claim.epoch() + 1, standing: Standing::Held(to.clone()), lost };
        self.swap_register(&self.layout.claim(&claim.shard)?, &claim.seen, next).await
    }
}

impl Layout {
    fn claim(&self, shard: &ShardId) -> Result<ObjectPath, LedgerError> {
        self.named("claims", shard.as_str())
    }

    fn parse_claim(&self, path: &ObjectPath) -> Option<ShardId> {
        self.parse_named("claims", path).map(ShardId::new)
    }
}
