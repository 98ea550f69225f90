/* The caller works, too, and waits only for units that a member has begun. One that the system does not let run costs
   nothing before that; when it holds up what it has begun, other work wants its core, and the team stays away for a
   while. Nothing here knows Python. */

#define _GNU_SOURCE
#include "team.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define UNIT_BITS 24
#define LEFT(ticket) ((ticket) & ((1 << UNIT_BITS) - 1))
#define PATIENCE 64  /* looks at what is awaited, before others are let run */
#define LATE 1000000 /* nanoseconds for a unit, if it is also more than the caller's own took */
#define ABSENCE 50   /* times as long the team stays away, so that waiting costs so small a part */

/* The ticket has the number of the piece of work, and below it how many units are left to be taken. Whoever takes one
   counts it down; that fails when the work is no longer that which was read. */
struct Team {
    _Atomic uint64_t ticket;
    _Atomic int64_t undone;
    _Atomic Work work;
    const void *_Atomic context;
    _Atomic int awake, over;
    _Atomic int64_t seats;
    pthread_mutex_t lock;
    pthread_cond_t roused;
    int64_t away_until;
    pid_t process; /* a child that was forked has no members */
    int64_t members;
    pthread_t threads[];
};

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static void pause_or_yield(int *turns) {
    if (++*turns > PATIENCE)
        sched_yield();
    else
#if defined(__x86_64__)
        __builtin_ia32_pause();
#else
        __asm__ volatile("yield");
#endif
}

/* Whether there was a unit left, which is then done. */
static int take_one(Team *team, int64_t member) {
    uint64_t ticket = atomic_load(&team->ticket);
    if (!LEFT(ticket)) return 0;
    Work work = atomic_load(&team->work);
    const void *context = atomic_load(&team->context);
    if (atomic_compare_exchange_strong(&team->ticket, &ticket, ticket - 1)) {
        work(context, LEFT(ticket) - 1, member);
        atomic_fetch_sub(&team->undone, 1);
    }
    return 1;
}

/* False when the team is over. */
static int sleep_until_roused(Team *team) {
    pthread_mutex_lock(&team->lock);
    while (!atomic_load(&team->awake) && !atomic_load(&team->over)) pthread_cond_wait(&team->roused, &team->lock);
    pthread_mutex_unlock(&team->lock);
    return !atomic_load(&team->over);
}

static void *live(void *argument) {
    Team *team = argument;
    int64_t number = atomic_fetch_add(&team->seats, 1) + 1;
    while (sleep_until_roused(team))
        for (int turns = 0; atomic_load(&team->awake);)
            if (take_one(team, number))
                turns = 0;
            else
                pause_or_yield(&turns);
    return NULL;
}

Team *team_begin(int64_t members) {
    Team *team = calloc(1, sizeof(Team) + members * sizeof(pthread_t));
    if (!team) return NULL;
    team->process = getpid();
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->roused, NULL);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the threads that were there before */
    while (team->members < members && !pthread_create(&team->threads[team->members], NULL, live, team))
        team->members++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return team;
}

static void rouse(Team *team, _Atomic int *why) {
    pthread_mutex_lock(&team->lock);
    atomic_store(why, 1);
    pthread_cond_broadcast(&team->roused);
    pthread_mutex_unlock(&team->lock);
}

void team_end(Team *team) {
    if (!team || team->process != getpid()) return;
    rouse(team, &team->over);
    for (int64_t i = 0; i < team->members; i++) pthread_join(team->threads[i], NULL);
    pthread_cond_destroy(&team->roused);
    pthread_mutex_destroy(&team->lock);
    free(team);
}

void team_wake(Team *team) {
    if (team && team->process == getpid() && now() >= team->away_until) rouse(team, &team->awake);
}

void team_rest(Team *team) {
    if (team) atomic_store(&team->awake, 0);
}

static void wait_for_members(Team *team, int64_t begun) {
    int64_t done = now();
    for (int turns = 0; atomic_load(&team->undone);) pause_or_yield(&turns);
    int64_t waited = now() - done;
    if (waited <= LATE || waited <= done - begun) return;
    team->away_until = done + ABSENCE * waited;
    team_rest(team);
}

void team_run(Team *team, Work work, const void *context, int64_t units) {
    if (!team || !atomic_load(&team->awake) || units >= 1 << UNIT_BITS) {
        for (int64_t unit = 0; unit < units; unit++) work(context, unit, 0);
        return;
    }
    int64_t begun = now();
    atomic_store(&team->work, work);
    atomic_store(&team->context, context);
    atomic_store(&team->undone, units);
    uint64_t number = atomic_load(&team->ticket) >> UNIT_BITS;
    atomic_store(&team->ticket, (number + 1) << UNIT_BITS | units);
    while (take_one(team, 0)) continue;
    wait_for_members(team, begun);
}
