//! `--to http://..`: posts lines, newline-delimited, many at a time.
//!
//! A 2xx is a receipt. Everything else says that the lines were not taken; whether because of themselves or of anything
//! else, the status tells.

use crate::failure::Failure;
use crate::ship::destination::{Destination, Outcome, lines};
use crate::ship::record::Line;
use std::io;
use std::time::Duration;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that needs longer for a batch gets it again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// So much of a refusal is read, and half a line of it repeated to the user.
const REASON_BYTES: u64 = 4 << 10;
const REASON_CHARS: usize = 160;

pub(crate) struct HttpDestination {
    url: String,
    agent: Agent,
}

impl HttpDestination {
    pub(crate) fn new(url: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Who follows a redirect posts nothing: it becomes a GET.
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(ANSWER_TIMEOUT))
            .user_agent(concat!("overspill/", env!("CARGO_PKG_VERSION")));
        Self {
            url: url.to_owned(),
            agent: config.build().into(),
        }
    }
}

impl Destination for HttpDestination {
    fn deliver(&mut self, batch: &[Line<'_>]) -> Result<Outcome, Failure> {
        let post = self.agent.post(&self.url).content_type("text/plain");
        let answer = post.send(lines(batch).as_slice());
        Ok(answer.map_or_else(|error| Outcome::Away(io::Error::other(error)), judge))
    }
}

fn judge(mut answer: Response<Body>) -> Outcome {
    let status = answer.status();
    // Read in any case: the connection serves again only when the answer is over.
    let body = answer.body_mut().with_config().limit(REASON_BYTES);
    let said = body.lossy_utf8(true).read_to_string().unwrap_or_default();
    if status.is_success() {
        return Outcome::Taken;
    }
    let said: String = said
        .lines()
        .next()
        .into_iter()
        .flat_map(str::chars)
        .take(REASON_CHARS)
        .collect();
    let reason = format!("it answered {status} {said}").trim_end().to_owned();
    if is_about_the_lines(status) {
        Outcome::Refused(reason)
    } else {
        Outcome::Away(io::Error::other(reason))
    }
}

/// True if the same lines will be refused for ever. An expired token, a wrong path and a busy server say nothing about them.
fn is_about_the_lines(status: StatusCode) -> bool {
    status.is_client_error()
        && !matches!(
            status,
            StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::NOT_FOUND
                | StatusCode::PROXY_AUTHENTICATION_REQUIRED
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::TOO_MANY_REQUESTS
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16) -> Outcome {
        let body = Body::builder().data("no such field\nat line 1");
        judge(Response::builder().status(status).body(body).unwrap())
    }

    #[test]
    fn only_a_success_counts_as_taken() {
        for status in [200, 202, 204] {
            assert!(matches!(judged(status), Outcome::Taken), "{status}");
        }
        for status in [301, 302, 401, 403, 404, 407, 408, 429, 500, 502, 503, 504] {
            assert!(matches!(judged(status), Outcome::Away(_)), "{status}");
        }
    }

    #[test]
    fn a_refusal_names_its_reason() {
        for status in [400, 413, 415, 422] {
            let Outcome::Refused(reason) = judged(status) else {
                panic!("{status}");
            };
            assert!(reason.starts_with(&format!("it answered {status} ")));
            assert!(reason.ends_with(" no such field"), "{reason}");
        }
    }
}
