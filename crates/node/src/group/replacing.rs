//! Entering that a member has left whose backup this directory was made of (`grapevine restore
//! --replace`): the operator's word, kept in the directory until the group has it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use grapevine_core::group::{CommandError as GroupError, Liveness};
use grapevine_core::membership::MemberState;
use grapevine_net::PeerKey;
use grapevine_store::collections::Collections;
use grapevine_store::disk::RealDisk;
use grapevine_store::restore::replacing::{self, LostMember, REPLACING_FILE};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::command::{Command, CommandError};
use super::courier::{Inbox, Input};
use super::status::{Board, Status};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A member has to be silent for so long, seen from within the group: all know of a crash after 5
/// to 10 seconds, and a node that has just joined hears who is alive sooner.
const SILENT_FOR: Duration = Duration::from_secs(10);
/// Between two lines of the log about one member and one reason.
const REMIND_EVERY: Duration = Duration::from_mins(10);

/// Why a member is not replaced yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Obstacle {
    #[error("this node has not joined the group yet")]
    Outside,
    #[error("this node is waiting to see whether that member answers")]
    Looking,
    #[error(
        "that member is alive. Stop its node, or remove the file {REPLACING_FILE} from this \
         node's data directory and restart this node to keep both"
    )]
    Alive,
    #[error("{0}")]
    Refused(CommandError),
    #[error("{0}")]
    Disk(String),
}

/// What is to be done about a member now.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Wait(Obstacle),
    Enter,
    /// It is no member any more.
    Done,
}

/// How the replacing goes, for people.
pub(super) type Notes = Arc<Mutex<Vec<String>>>;

/// The members to replace, and what it takes.
pub(super) struct Replacing {
    disk: RealDisk,
    collections: Arc<Collections>,
    board: Arc<Board>,
    inbox: Inbox,
    /// Nobody is called or looked for, so a node that knows no other member has nobody to join.
    alone: bool,
    members: Vec<LostMember>,
    /// Since when a member was seen to be silent.
    silent: BTreeMap<PeerKey, Instant>,
    told: BTreeMap<PeerKey, (Obstacle, Instant)>,
    notes: Notes,
}

impl Replacing {
    /// Reads which members are to be replaced. A file that cannot be read is reported and kept; the
    /// node starts without.
    pub(super) fn read(
        data_dir: &Path,
        collections: Arc<Collections>,
        board: Arc<Board>,
        inbox: Inbox,
        alone: bool,
    ) -> Self {
        let disk = RealDisk::new(data_dir.to_owned());
        let members = replacing::read(&disk).unwrap_or_else(|error| {
            tracing::error!(
                "{error}; no member is replaced: enter it with `grapevine group leave KEY`, and \
                 remove the file"
            );
            Vec::new()
        });
        Replacing {
            disk,
            collections,
            board,
            inbox,
            alone,
            members,
            silent: BTreeMap::new(),
            told: BTreeMap::new(),
            notes: Notes::default(),
        }
    }

    /// Where it says how it goes.
    pub(super) fn notes(&self) -> Notes {
        Arc::clone(&self.notes)
    }

    /// Works until every member is replaced.
    pub(super) async fn run(mut self) {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.members.is_empty() {
            look.tick().await;
            let mut notes = Vec::new();
            for lost in self.members.clone() {
                if let Some(obstacle) = self.attend(&lost).await {
                    notes.push(self.tell(&lost, &obstacle));
                }
            }
            *self.notes.lock().unwrap_or_else(PoisonError::into_inner) = notes;
        }
    }

    /// Takes the next step about a member; what is in the way, if anything.
    async fn attend(&mut self, lost: &LostMember) -> Option<Obstacle> {
        let key = key_of(lost);
        let status = self.board.read();
        let silent = self.silent.get(&key).map(Instant::elapsed);
        let step = judge(&status, &self.members, key, silent, self.alone);
        match &step {
            Step::Wait(Obstacle::Looking) => {
                self.silent.entry(key).or_insert_with(Instant::now);
            }
            Step::Wait(_) => {
                self.silent.remove(&key);
            }
            Step::Enter | Step::Done => {}
        }
        match step {
            Step::Wait(obstacle) => Some(obstacle),
            // The next look finds it among those that left, or not.
            Step::Enter => self.enter(lost, key).await.err(),
            Step::Done => self.forget(lost).await.err(),
        }
    }

    async fn enter(&self, lost: &LostMember, key: PeerKey) -> Result<(), Obstacle> {
        let (answer, answered) = oneshot::channel();
        let member = Some(key.to_string());
        let command = Input::Command(Command::Leave { member, answer });
        self.inbox.put(command).await;
        match answered.await.unwrap_or(Err(CommandError::Stopping)) {
            Ok(_) => {
                let name = &lost.name;
                tracing::info!("entered that {name} ({key}) has left: this node replaces it");
                Ok(())
            }
            Err(CommandError::Group(GroupError::Connected(_))) => Err(Obstacle::Alive),
            Err(error) => Err(Obstacle::Refused(error)),
        }
    }

    /// Takes a member out of the file, once what was entered is durable.
    async fn forget(&mut self, lost: &LostMember) -> Result<(), Obstacle> {
        let mut left = self.members.clone();
        left.retain(|other| other != lost);
        let (collections, disk) = (Arc::clone(&self.collections), self.disk.clone());
        let kept = left.clone();
        let written = tokio::task::spawn_blocking(move || -> Result<(), String> {
            let synced = collections.journal().sync();
            synced.map_err(|error| error.to_string())?;
            replacing::write(&disk, &kept).map_err(|error| error.to_string())
        });
        let written = written.await.unwrap_or_else(|error| Err(error.to_string()));
        written.map_err(Obstacle::Disk)?;
        self.members = left;
        Ok(())
    }

    /// Logs what is in the way, unless it was logged lately; gives the text.
    fn tell(&mut self, lost: &LostMember, obstacle: &Obstacle) -> String {
        let key = key_of(lost);
        let text = format!(
            "member {} ({key}) is not replaced yet: {obstacle}",
            lost.name
        );
        let recent =
            |(told, at): &(Obstacle, Instant)| told == obstacle && at.elapsed() < REMIND_EVERY;
        if !self.told.get(&key).is_some_and(recent) {
            self.told.insert(key, (obstacle.clone(), Instant::now()));
            match obstacle {
                Obstacle::Outside | Obstacle::Looking => tracing::info!("{text}"),
                _ => tracing::warn!("{text}"),
            }
        }
        text
    }
}

fn key_of(lost: &LostMember) -> PeerKey {
    PeerKey::from_bytes(lost.node.bytes())
}

/// What the group, as this node sees it, allows to do about one of the members to replace. `silent`
/// is for how long it has been silent.
fn judge(
    status: &Status,
    replaced: &[LostMember],
    key: PeerKey,
    silent: Option<Duration>,
    alone: bool,
) -> Step {
    // Before the group's thread has looked for the first time there is nobody in the status.
    let is_member = status.members.iter().any(|member| member.key == status.me);
    if status.left || !is_member {
        return Step::Wait(Obstacle::Outside);
    }
    // Nobody who is to be replaced vouches for the group.
    let mut others = status
        .others()
        .filter(|other| replaced.iter().all(|lost| key_of(lost) != other.key))
        .peekable();
    let nobody = alone && others.peek().is_none();
    // What the members of the group say has arrived.
    let is_informed = others.any(|other| {
        let link = other.link.as_ref();
        link.is_some_and(|link| link.known && link.to_receive == 0)
    });
    let known = status.members.iter().find(|member| member.key == key);
    let joined = known.filter(|member| member.state == MemberState::Joined);
    let answers = |member: &&super::MemberStatus| {
        member.link.is_some() || matches!(member.liveness, Liveness::Alive | Liveness::Suspect)
    };
    match joined {
        Some(member) if answers(&member) => Step::Wait(Obstacle::Alive),
        _ if !is_informed && !nobody => Step::Wait(Obstacle::Outside),
        None => Step::Done,
        Some(_) if silent.is_some_and(|silent| silent >= SILENT_FOR) => Step::Enter,
        Some(_) => Step::Wait(Obstacle::Looking),
    }
}

#[cfg(test)]
mod tests;
