#include "base/thread.h"

#include <pthread.h>
#include <sched.h>

namespace warmpath {

void NameThread(const std::string& name) {
  pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
}

int BackgroundPolicy() {
  return SCHED_BATCH;
}

void BecomeBackground() {
  const sched_param priority{};
  pthread_setschedparam(pthread_self(), BackgroundPolicy(), &priority);
}

}  // namespace warmpath
