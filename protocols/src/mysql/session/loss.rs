//! What losses take along, and how a session ends.

use super::super::packet::Packet;
use super::super::reply::Reply;
use super::super::wire::capability;
use super::{Control, LOGIN, Lost, Phase, Session};
use crate::{Output, Reason, Reasons, Side, Violation};

impl Session {
    pub(super) fn broken(&mut self, side: Side, violation: Violation, out: &mut Output<'_>) -> Control {
        self.gap(side, Reason::ParseError.into(), 0, out);
        Control::Resync(violation)
    }

    /// A packet that cannot be read: because a part of it is missing, or because it breaks a rule.
    pub(super) fn unreadable(
        &mut self,
        side: Side,
        packet: &Packet<'_>,
        rule: &'static str,
        out: &mut Output<'_>,
    ) -> Control {
        let Some(hole) = packet.hole else { return self.broken(side, Violation(rule), out) };
        self.gap(side, hole.reason.into(), hole.lost, out);
        Control::Go
    }

    /// Messages of `side` are missing.
    pub(in crate::mysql) fn gap(&mut self, side: Side, reasons: Reasons, length: u64, out: &mut Output<'_>) {
        let lost_bytes = if reasons.contains(Reason::Gap) { length } else { 0 };
        self.at_rest = false;
        self.unseen.merge(reasons);
        if let Some(login) = &mut self.login {
            login.reasons.merge(reasons);
            login.missing += lost_bytes;
        }
        if self.phase == Phase::Auth && self.terms.has(capability::COMPRESSED) == Some(false) {
            return self.gap_of_login(side, reasons);
        }
        let unread = !reasons.contains(Reason::ParseError);
        if side == Side::Server && unread && matches!(self.phase, Phase::Greeting | Phase::Login) {
            // The client's answer to a greeting tells what is needed.
            self.phase = Phase::Login;
            self.blind = Some(reasons);
            return;
        }
        let logging_in = std::mem::replace(&mut self.phase, Phase::Command) != Phase::Command;
        if let Some(lost) = &mut self.lost {
            lost.blank = false;
        }
        match side {
            Side::Server => self.gap_of_server(reasons, lost_bytes, out),
            Side::Client => {
                if self.blind.is_some() {
                    // Whether the server has answered before what comes next cannot be seen.
                    self.lose_all(reasons, out);
                }
                self.gap_of_client(reasons, lost_bytes);
            }
        }
        if let Some(lost) = self.lost.as_mut().filter(|_| logging_in) {
            lost.early = true;
            self.compressed = self.terms.capabilities.map(|it| it & capability::COMPRESSED != 0);
        }
    }

    /// Something is missing of how both prove who they are. Behind it the client may have asked something.
    fn gap_of_login(&mut self, side: Side, reasons: Reasons) {
        self.next_sequence = None;
        self.missed_login |= side == Side::Server;
        if side == Side::Client {
            self.gap_of_client(reasons, 0);
            if let Some(lost) = &mut self.lost {
                (lost.early, lost.blank) = (true, false);
            }
        }
    }

    /// The answer to a login behind which something was asked may be missing: it has succeeded, or nothing would follow.
    fn presume_login(&mut self) {
        if self.queue.len() > 1 && self.queue.front().is_some_and(|front| front.command == LOGIN) {
            self.queue.pop_front();
            self.reply = Reply::default();
        }
    }

    pub(super) fn gap_of_server(&mut self, reasons: Reasons, lost_bytes: u64, out: &mut Output<'_>) {
        self.presume_login();
        if let Some(front) = self.queue.front_mut() {
            front.missing += lost_bytes;
        }
        self.pipelines |= self.queue.len() > 1 && !self.waits;
        let early = self.queue.len() <= 1 && self.lost.as_ref().is_none_or(|lost| lost.early);
        let quiet = self.lost.as_ref().is_none_or(|lost| lost.quiet);
        self.lose_all(reasons, out);
        if let Some(lost) = &mut self.lost {
            lost.early = early;
            lost.quiet = quiet;
        }
        self.blind = Some(reasons);
    }

    /// What was asked before is still answered in order; what comes after may be behind unseen commands.
    pub(super) fn gap_of_client(&mut self, reasons: Reasons, lost_bytes: u64) {
        self.miss_commands(reasons);
        if self.takes_data()
            && let Some(front) = self.queue.front_mut()
        {
            front.missing += lost_bytes;
            front.lose_data(reasons);
            self.next_sequence = None;
        }
        let lost = self.lost.get_or_insert_with(|| Lost::new(reasons));
        lost.reasons.merge(reasons);
        // An answer that came before the next command shows that the client has waited for it, not that it always does.
        let answered = lost.stray.has_begun() && lost.reported == 0;
        lost.early = answered;
        lost.quiet = answered;
    }

    /// Commands were not seen: what they have changed is not known.
    pub(super) fn miss_commands(&mut self, reasons: Reasons) {
        self.unseen.merge(reasons);
        self.statements.doubt();
        (self.user, self.database) = (None, None);
    }

    /// Reports everything that waits.
    pub(super) fn lose_all(&mut self, reasons: Reasons, out: &mut Output<'_>) {
        let reply = std::mem::take(&mut self.reply);
        let mut begun = Some(reply).filter(Reply::has_begun);
        self.next_sequence = None;
        while let Some(mut draft) = self.queue.pop_front() {
            self.let_go(&mut draft);
            draft.reasons.merge(reasons);
            let effect = std::mem::take(&mut draft.effect);
            let cut = begun.take().map(|reply| {
                draft.reasons.merge(reply.reasons);
                draft.missing += reply.missing;
                reply.into_part(false)
            });
            self.emit(draft, cut, out);
            self.apply_unseen(effect);
        }
        let lost = self.lost.get_or_insert_with(|| Lost::new(reasons));
        lost.reasons.merge(reasons);
    }

    /// Bytes of the server pass that are not understood.
    pub(in crate::mysql) fn saw_server(&mut self) {
        if let Some(lost) = &mut self.lost {
            lost.blank = false;
            lost.quiet = true;
        }
    }

    /// The connection is over, or its server has said all.
    pub(in crate::mysql) fn close(&mut self, out: &mut Output<'_>) {
        self.settle(out);
        let reason = if self.reply.has_begun() { Reason::Closed } else { Reason::NoResponse };
        let mut silent: Reasons = reason.into();
        if let Some(login) = self.login.take() {
            self.emit_unanswered(login, silent, out);
        }
        let lost = self.lost.take();
        silent.merge(lost.as_ref().map_or(Reasons::NONE, |lost| lost.reasons));
        self.lose_all(silent, out);
        self.lost = lost;
        self.end_loss(out);
    }
}
