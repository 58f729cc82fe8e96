//! Calls as `cloudctl` makes them: any controller will do, a failed attempt goes
//! to another one with the same request id, until there is an answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nube_cluster_tests::door::Door;
use nube_harness::lab::Lab;
use rand::Rng;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

/// The first attempt of a call, and what doubles with each: short enough that a
/// controller on the wrong side of a cut does not hold its client for the whole
/// round, and in the end long enough for a wire that is slow.
const ATTEMPT_FIRST: Duration = Duration::from_millis(400);
const ATTEMPT: Duration = Duration::from_secs(3);
/// A whole call. Faults end long before: who gets no answer until then is a
/// finding (A10).
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// The controllers, from one client's side.
#[derive(Clone)]
pub struct Cell(Arc<[Channel]>);

impl Cell {
    /// Nothing is connected yet. Call within a runtime.
    pub fn of(lab: &Lab) -> anyhow::Result<Self> {
        let endpoints: Vec<String> = lab
            .controllers()
            .iter()
            .map(|name| lab.endpoint(name))
            .collect::<Result<_, _>>()?;
        let count = endpoints.len();
        let door = Door::at(endpoints, &lab.cell())?;
        let channels: Result<Vec<_>, _> = (0..count).map(|n| door.connect_lazy(n)).collect();
        Ok(Self(channels?.into()))
    }

    /// How many controllers there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The connection to one controller.
    pub fn channel(&self, number: usize) -> Channel {
        self.0[number % self.0.len()].clone()
    }

    /// Asks one after the other, beginning at a random one, until an answer that
    /// would not change.
    pub async fn call<T, F>(&self, mut attempt: impl FnMut(Channel) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let begun = Instant::now();
        let mut number = rand::rng().random_range(0..self.count());
        let mut patience = ATTEMPT_FIRST;
        loop {
            let answer = tokio::time::timeout(patience, attempt(self.channel(number))).await;
            patience = ATTEMPT.min(patience * 2);
            let status = match answer {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer in time"),
            };
            if is_final(&status) || begun.elapsed() > PATIENCE {
                return Err(status);
            }
            number += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One attempt at one controller.
    pub async fn ask<T, F>(
        &self,
        number: usize,
        attempt: impl FnOnce(Channel) -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        match tokio::time::timeout(ATTEMPT, attempt(self.channel(number))).await {
            Ok(answer) => answer.map(Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("no answer in time")),
        }
    }
}

/// The same answer would come again. What the transport says never is.
fn is_final(status: &Status) -> bool {
    let by_transport = std::error::Error::source(status).is_some();
    let may_change = matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Aborted | Code::Cancelled
    );
    !by_transport && !may_change
}
