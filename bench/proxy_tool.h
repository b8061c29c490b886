// The two halves of proxy_load, the program behind `./dev bench gateway` and `./dev bench idle`.
#pragma once

#include <fcntl.h>
#include <sys/resource.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

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

// `--NAME VALUE`, and where the value goes; to a list, each time one is given.
struct Option {
  std::string_view name;
  std::variant<std::string*, uint16_t*, uint32_t*, uint64_t*, bool*, std::vector<int>*> to;
};

inline void ReadOptions(int argc, char** argv, std::initializer_list<Option> known) {
  for (int i = 0; i + 1 < argc; i += 2) {
    const Option* found = nullptr;
    for (const Option& option : known) {
      if (option.name == argv[i]) found = &option;
    }
    if (found == nullptr) Die("unknown option " + std::string(argv[i]));
    const char* const value = argv[i + 1];
    const uint64_t number = std::strtoull(value, nullptr, 10);
    std::visit(
        [&](auto* to) {
          using T = std::remove_pointer_t<decltype(to)>;
          if constexpr (std::is_same_v<T, std::string>) {
            *to = value;
          } else if constexpr (std::is_same_v<T, std::vector<int>>) {
            to->push_back(static_cast<int>(number));
          } else {
            *to = static_cast<T>(number);
          }
        },
        found->to);
  }
}

}  // namespace warmpath::bench
