// Result<T>: the one way a function reports a failure whose reason lies outside the program.
//
// Codes are a closed set; the message says what failed, on what input, and which limit was
// involved. Programmer errors are CHECKed instead (check.h). Wraps tl::expected; becomes
// std::expected with C++23.
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace warmpath {

enum class Code {
  kInvalidArgument,  // the input is wrong; repeating it cannot help
  kNotFound,
  kUnavailable,  // a peer is gone or refuses; a retry elsewhere or later may help
  kTimeout,      // a deadline passed
  kOutOfBounds,  // a limit of ours was exceeded
  kCancelled,    // the caller or the client went away
  kUnsupported,  // valid, but not something this build or model can do
  kInternal,     // a library failed in a way it does not explain
};

std::string_view CodeName(Code code);

struct Error {
  Code code = Code::kInternal;
  std::string message;
};

template <typename T>
using Result = tl::expected<T, Error>;
using Status = tl::expected<void, Error>;

inline tl::unexpected<Error> Fail(Code code, std::string message) {
  return tl::unexpected<Error>(Error{code, std::move(message)});
}
// Passes a failure on with what was being done put in front: "reading config.yaml: no such file".
inline tl::unexpected<Error> Fail(const Error& cause, std::string_view doing) {
  return tl::unexpected<Error>(Error{cause.code, std::string(doing) + ": " + cause.message});
}

}  // namespace warmpath

// Evaluates a Result expression; on failure returns its error from the enclosing function,
// otherwise binds the value.
#define WP_CONCAT_INNER(a, b) a##b
#define WP_CONCAT(a, b) WP_CONCAT_INNER(a, b)
#define WP_TRY(declaration, expression) \
  WP_TRY_IMPL(WP_CONCAT(wp_try_, __LINE__), declaration, expression)
#define WP_TRY_IMPL(temporary, declaration, expression)                \
  auto temporary = (expression);                                       \
  if (!temporary) return tl::unexpected(std::move(temporary.error())); \
  declaration = std::move(*temporary)
#define WP_RETURN_IF_ERROR(expression)                     \
  do {                                                     \
    if (auto wp_status = (expression); !wp_status)         \
      return tl::unexpected(std::move(wp_status.error())); \
  } while (false)
