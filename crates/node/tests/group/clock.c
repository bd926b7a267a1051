/* A wall clock that is wrong: loaded before the C library, it adds the seconds that the file
   $CLOCK_AHEAD holds to what the system says. Monotonic clocks stay as they are. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
  long result = syscall(SYS_clock_gettime, clock, time);
  const char *name = getenv("CLOCK_AHEAD");
  if (result == 0 && clock == CLOCK_REALTIME && name != NULL) {
    FILE *file = fopen(name, "r");
    long ahead = 0;
    if (file != NULL) {
      if (fscanf(file, "%ld", &ahead) == 1) time->tv_sec += ahead;
      fclose(file);
    }
  }
  return (int)result;
}
