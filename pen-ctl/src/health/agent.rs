//! The check `agent`: a program on a backend says in one line how much it can bear: HAProxy's agent-check.
//!
//! What a line leaves unsaid stays as the agent last said it. So a check remembers, as [`Standing`], what it was told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::ask::{Answer, Failed, Held, Question};
use super::connect;
use crate::check::AgentCheck;
use crate::excerpt::excerpt;
use crate::surroundings::Advice;

/// Bytes of a line at most.
const LONGEST: usize = 4096;
/// Percent at most, as in HAProxy.
const MOST: u16 = 25_600;

/// Hears the agent out and adds it to what it said before.
pub(super) async fn ask(question: &Question, check: &AgentCheck) -> Result<Answer, Failed> {
    let line = hear(question.endpoint()?, check, question.limit()).await?;
    let said = Said::read(&line)?;
    let mut standing = question.agent.0.lock().unwrap_or_else(PoisonError::into_inner);
    standing.hear(said);
    standing.outcome()
}

/// The agent's line: up to its end, or to the end of the connection.
async fn hear(agent: SocketAddr, check: &AgentCheck, limit: Duration) -> Result<Vec<u8>, Failed> {
    let mut stream = connect::stream(agent, limit).await?;
    if let Some(send) = &check.send {
        // An agent that asks for nothing may have gone before it hears this: its answer is there.
        let _ = stream.write_all(send.bytes()).await;
    }
    let mut line = Vec::new();
    let mut chunk = [0; 512];
    while line.len() < LONGEST {
        let length = stream.read(&mut chunk).await.map_err(|error| Failed::answer(&error))?;
        let ends = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let end = chunk[..length].iter().position(ends);
        line.extend_from_slice(&chunk[..end.unwrap_or(length)]);
        if end.is_some() || length == 0 {
            break;
        }
    }
    Ok(line)
}

/// What the agent of one check said so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory(Arc<Mutex<Standing>>);

/// How an agent says that its backend is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Standing {
    /// In percent; `None` = nothing was said.
    weight: Option<u16>,
    mode: Mode,
    /// Why it is down, if it is.
    down: Option<String>,
}

/// What the backend's administrator wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Ready,
    Drain,
    /// With what was said about it.
    Maint(String),
}

impl Standing {
    fn hear(&mut self, said: Said) {
        self.weight = said.weight.or(self.weight);
        if let Some(mode) = said.mode {
            self.mode = mode;
        }
        if let Some(down) = said.down {
            self.down = down;
        }
    }

    /// Whether it is down because somebody wants that, rather than because something is amiss: `fail` and `failed` say that
    /// it does not work, the other words that it is out of service.
    fn is_planned(&self) -> bool {
        let fails = self.down.as_ref().is_some_and(|word| word.starts_with("fail"));
        matches!(self.mode, Mode::Maint(_)) || !fails
    }

    fn outcome(&self) -> Result<Answer, Failed> {
        let advice = Advice { weight: self.weight, drain: self.mode == Mode::Drain };
        let held = match (&self.mode, &self.down) {
            (Mode::Maint(about), _) => Some(format!("agent says maint{about}")),
            (_, Some(word)) => Some(format!("agent says {word}")),
            _ => None,
        };
        if let Some(why) = held {
            let planned = self.is_planned();
            return Err(Failed::Agent(why, Held { advice, planned }));
        }
        let word = if advice.drain { "drain" } else { "up" };
        let share = self.weight.map_or_else(String::new, |percent| format!(", {percent}%"));
        Ok(Answer { what: format!("agent says {word}{share}"), advice: Some(advice) })
    }
}

/// One line's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    weight: Option<u16>,
    mode: Option<Mode>,
    /// `Some(None)`: it is up.
    down: Option<Option<String>>,
}

impl Said {
    /// Words stand between spaces, tabs and commas, in any order; what comes after `#` is for people. So are words
    /// that mean nothing, but a line without any that does is no agent's. Only what is for people is cut: a word that
    /// were lost could be `down`.
    fn read(line: &[u8]) -> Result<Said, Failed> {
        let mut parts = line.splitn(2, |byte| *byte == b'#');
        let (words, about) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let words = words.split(|byte| matches!(byte, b' ' | b'\t' | b',')).filter(|word| !word.is_empty());
        let mut said = Said::default();
        let mut strange: Vec<&[u8]> = Vec::new();
        let mut known = 0;
        for word in words {
            match str::from_utf8(word).is_ok_and(|word| said.take(word)) {
                true => known += 1,
                false => strange.push(word),
            }
        }
        if known == 0 {
            let text = excerpt(line);
            return Err(Failed::Answer(match text.is_empty() {
                true => "its agent says nothing".to_owned(),
                false => format!("not the words of an agent: {text}"),
            }));
        }
        let about = [excerpt(about), excerpt(&strange.join(&b' '))];
        said.explain(about.iter().map(String::as_str).find(|text| !text.is_empty()));
        Ok(said)
    }

    /// Takes a word; says whether it means anything.
    fn take(&mut self, word: &str) -> bool {
        let lower = word.to_ascii_lowercase();
        match lower.as_str() {
            "up" => self.down = Some(None),
            "down" | "fail" | "failed" | "stopped" => self.down = Some(Some(lower)),
            "ready" => self.mode = Some(Mode::Ready),
            "drain" => self.mode = Some(Mode::Drain),
            "maint" => self.mode = Some(Mode::Maint(String::new())),
            _ if lower.starts_with("maxconn:") => {}
            _ => match percent(&lower) {
                Some(percent) => self.weight = Some(percent),
                None => return false,
            },
        }
        true
    }

    /// Adds what is for people to what needs a reason.
    fn explain(&mut self, about: Option<&str>) {
        let Some(about) = about else { return };
        if let Some(Some(word)) = &mut self.down {
            word.push_str(&format!(": {about}"));
        }
        if let Some(Mode::Maint(why)) = &mut self.mode {
            why.push_str(&format!(": {about}"));
        }
    }
}

/// `75%`; what is above the most counts as that.
fn percent(word: &str) -> Option<u16> {
    let digits = word.strip_suffix('%')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse::<u16>().map_or(MOST, |percent| percent.min(MOST)))
}

#[cfg(test)]
mod tests;
