// CHECK: continuing would corrupt state. DCHECK: an invariant that debug and sanitizer builds
// verify. Never on external input.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace warmpath::internal {
[[noreturn]] inline void CheckFailed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "warmpath: CHECK failed: %s at %s:%d\n", condition, file, line);
  std::abort();
}
}  // namespace warmpath::internal

#define WP_CHECK(condition) \
  ((condition) ? (void)0 : ::warmpath::internal::CheckFailed(#condition, __FILE__, __LINE__))
#ifdef NDEBUG
#define WP_DCHECK(condition) ((void)sizeof(!(condition)))
#else
#define WP_DCHECK(condition) WP_CHECK(condition)
#endif
