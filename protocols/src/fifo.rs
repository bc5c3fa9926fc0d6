//! Pairing by order.

use std::collections::VecDeque;

/// Requests that wait for their responses in the order in which they were sent, bounded.
#[derive(Debug)]
pub struct Fifo<T> {
    waiting: VecDeque<T>,
    limit: usize,
}

impl<T> Fifo<T> {
    /// Holds at most `limit` requests.
    pub fn new(limit: usize) -> Self {
        Self { waiting: VecDeque::new(), limit: limit.max(1) }
    }

    /// Adds a request; gives back the oldest one when there is no room, for the caller to report.
    #[must_use = "a request that was pushed out has to be reported"]
    pub fn push(&mut self, request: T) -> Option<T> {
        let evicted = if self.waiting.len() >= self.limit { self.waiting.pop_front() } else { None };
        self.waiting.push_back(request);
        evicted
    }

    /// Takes the request that the next response answers.
    pub fn pop(&mut self) -> Option<T> {
        self.waiting.pop_front()
    }

    /// The request that the next response answers.
    pub fn front(&self) -> Option<&T> {
        self.waiting.front()
    }

    /// The request that the next response answers.
    pub fn front_mut(&mut self) -> Option<&mut T> {
        self.waiting.front_mut()
    }

    /// The request that was added last.
    pub fn back_mut(&mut self) -> Option<&mut T> {
        self.waiting.back_mut()
    }

    /// Takes all that wait, oldest first.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.waiting.drain(..)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
