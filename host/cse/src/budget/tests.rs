use super::*;
use std::sync::mpsc;
use std::time::Duration;

fn budget(steps: u64) -> RequestBudget {
    let deadline = Instant::now() + Duration::from_secs(600);
    RequestBudget::new(Arc::default(), deadline, steps)
}

#[test]
fn part_of_authority_ends_with_whole_or_before() {
    let whole = Arc::new(Authority::default());
    let part = || Arc::new(Authority::part_of(&whole));
    let budget_of = |part: &Arc<Authority>| {
        RequestBudget::new(part.clone(), Instant::now() + Duration::from_secs(600), 1)
    };
    let (first, second) = (part(), part());
    assert!(first.end());
    assert!(matches!(budget_of(&first).hold(), Err(StopReason::AuthorityEnded)));
    assert!(budget_of(&second).hold().is_ok());
    let (budget, (held, holds)) = (budget_of(&second), mpsc::channel());
    let holder = std::thread::spawn(move || {
        let commit = budget.hold().unwrap();
        held.send(()).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        drop(commit);
    });
    holds.recv().unwrap();
    assert_eq!(whole.try_end(), None, "a commit is in progress");
    assert!(whole.end());
    holder.join().unwrap();
    assert!(matches!(budget_of(&second).hold(), Err(StopReason::AuthorityEnded)));
}

#[test]
fn steps_are_counted_for_all_clones() {
    let budget = budget(4);
    budget.step(0).unwrap();
    budget.clone().step(BYTES_PER_STEP).unwrap();
    assert_eq!(budget.left(), 1);
    assert_eq!(budget.step(BYTES_PER_STEP), Err(StopReason::Steps));
    assert_eq!(budget.step(0), Err(StopReason::Steps), "what is refused ends the work");
}

#[test]
fn partial_budget_is_limited_by_whole() {
    let whole = budget(2);
    let part = whole.with_steps(100);
    part.step(0).unwrap();
    part.step(0).unwrap();
    assert_eq!(part.step(0), Err(StopReason::Steps));
    whole.step(0).unwrap();
    let part = whole.with_steps(1);
    whole.cancel();
    assert_eq!(part.check(), Err(StopReason::Canceled));
}

#[test]
fn low_priority_work_does_not_yield_while_it_writes() {
    let budget = budget(1);
    let writing = budget.while_writing();
    assert!(!budget.yields());
    budget.lower_priority();
    assert!(budget.yields());
    assert!(writing.is_low_priority() && !writing.yields());
}

#[test]
fn foreign_resources_have_separate_steps() {
    let budget = budget(10);
    for _ in 0..3 {
        budget.step(0).unwrap();
    }
    budget.charge_foreign(3, 1);
    assert_eq!((budget.left(), budget.foreign_left()), (10, 2));
    for _ in 0..4 {
        budget.step(0).unwrap();
    }
    budget.charge_foreign(4, 10);
    assert_eq!((budget.left(), budget.foreign_left()), (8, 0), "there were two");
    budget.step(0).unwrap();
    budget.charge_foreign(1, 1);
    assert_eq!(budget.left(), 7);
}

#[test]
fn first_try_has_few_steps() {
    let whole = budget(1000);
    let first = whole.first_try();
    for _ in 0..FIRST_TRY_STEPS {
        assert!(!first.is_used_up());
        first.step(0).unwrap();
        first.charge_foreign(1, 1);
    }
    assert_eq!(first.step(0), Err(StopReason::Steps));
    assert!(first.is_used_up());
    assert_eq!((whole.left(), whole.foreign_left()), (1000, 500));
    whole.cancel();
    assert_eq!(first.check(), Err(StopReason::Canceled));
}

#[test]
fn work_stops_for_each_reason() {
    let late = budget(1).with_deadline(Instant::now());
    assert_eq!(late.check(), Err(StopReason::Deadline));
    let dropped = budget(1);
    drop(dropped.cancel_on_drop());
    assert_eq!(dropped.check(), Err(StopReason::Canceled));
    let authority = Arc::new(Authority::default());
    let ended = RequestBudget::new(authority.clone(), Instant::now(), 1)
        .with_deadline(Instant::now() + Duration::from_secs(600));
    ended.check().unwrap();
    assert!(authority.end());
    assert!(!authority.end(), "it ends once");
    assert_eq!(authority.try_end(), Some(false));
    assert_eq!(ended.check(), Err(StopReason::AuthorityEnded));
    assert_eq!(ended.hold().map(drop), Err(StopReason::AuthorityEnded));
}

/// Otherwise, two commits that share a flush would wait for each other.
#[test]
fn commit_does_not_wait_for_end() {
    let authority = Arc::new(Authority::default());
    let budget = RequestBudget { authority: authority.clone(), ..budget(1) };
    let first = budget.hold().unwrap();
    let settling = std::thread::spawn({
        let authority = authority.clone();
        move || authority.settle()
    });
    std::thread::sleep(Duration::from_millis(20));
    let second = budget.hold().unwrap();
    let ending = std::thread::spawn({
        let authority = authority.clone();
        move || authority.end()
    });
    while !authority.has_ended() {
        std::thread::yield_now();
    }
    assert_eq!(budget.hold().map(drop), Err(StopReason::AuthorityEnded));
    drop((first, second));
    settling.join().unwrap();
    assert!(ending.join().unwrap());
    assert_eq!(*authority.commits(), 0);
}

#[test]
fn end_waits_for_commit_and_prevents_next() {
    let authority = Arc::new(Authority::default());
    let budget = budget(1);
    let budget = RequestBudget { authority: authority.clone(), ..budget };
    let held = budget.hold().unwrap();
    assert_eq!(authority.try_end(), None);
    budget.check().unwrap();
    let (ended, ends) = mpsc::channel();
    let ending = {
        let authority = authority.clone();
        std::thread::spawn(move || {
            let _ = ended.send(authority.end());
        })
    };
    while !authority.has_ended() {
        std::thread::yield_now();
    }
    assert_eq!(budget.check(), Err(StopReason::AuthorityEnded));
    assert!(ends.recv_timeout(Duration::from_millis(50)).is_err(), "it waits for the commit");
    drop(held);
    assert_eq!(ends.recv_timeout(Duration::from_secs(60)), Ok(true));
    ending.join().unwrap();
}
