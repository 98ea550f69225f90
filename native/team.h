/* Threads that share the units of a piece of work with the thread that has it. */

#ifndef TEAM_H
#define TEAM_H

#include <stdint.h>

typedef struct Team Team;

/* Does one unit, of which none knows of another; the caller is member 0. */
typedef void (*Work)(const void *context, int64_t unit, int64_t member);

/* A team with so many members beside the caller, or fewer where the system gives no more; null without memory. */
Team *team_begin(int64_t members);

/* Nobody may be using it. Null is no team. */
void team_end(Team *team);

/* Between these, members wait for work awake; before and after, they sleep. */
void team_wake(Team *team);
void team_rest(Team *team);

/* Does units 0 to `units` - 1, each once, by whoever comes first, and returns when all are done; for one thread at a
   time. A null or sleeping team leaves all of it to the caller. */
void team_run(Team *team, Work work, const void *context, int64_t units);

#endif
