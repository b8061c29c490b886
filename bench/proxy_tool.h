// The two halves of proxy_load, the program behind `./dev bench gateway` and `./dev bench idle`.
#pragma once

#include <fcntl.h>
#include <sys/resource.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>

namespace warmpath::bench {

int RunEngines(int argc, char** argv);  // light engines: proxy_engines.cc
int RunLoad(int argc, char** argv);     // the client: proxy_load.cc

[[noreturn]] inline void Die(const std::string& why) {
  std::fprintf(stderr, "proxy_load: %s\n", why.c_str());
  std::exit(1);
}

inline int64_t NowNs() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

inline void TakeAllFiles() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace warmpath::bench
