// What a thread is called and how the kernel treats it. Each acts on the calling thread.
#pragma once

#include <string>

namespace warmpath {

// As ps and top show it; the first 15 bytes count.
void NameThread(const std::string& name);

// The scheduling policy of threads that no client waits for: SCHED_BATCH. Woken on a core that is
// busy they wait for their turn, a few milliseconds at most, instead of taking the core from who
// serves a request, and find more to do at once. On an idle core nothing changes.
int BackgroundPolicy();
// Has no effect where the system refuses it.
void BecomeBackground();

}  // namespace warmpath
