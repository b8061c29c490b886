// The answer's way back through an exchange: every message is answered at once and byte for byte;
// what routing learns from it is read on the side. Confined to its stream's loop.
#pragma once

#include <optional>

#include "extproc/request_message.h"
#include "extproc/sink.h"
#include "routing/director.h"
#include "routing/usage_scanner.h"

namespace warmpath::extproc {

// Gives a piece of a body back in full duplex mode.
void SendStreamed(Sink& sink, Direction direction, std::string_view piece, bool end_of_stream);

class ResponsePhase {
 public:
  ResponsePhase(Sink& sink, bool conformance_headers)
      : sink_(sink), conformance_headers_(conformance_headers) {}

  // `outcome`: of the decision, reset at the end of the answer; may be empty (then nothing is
  // learned). Each returns what the peer did wrong, null when nothing.
  const char* OnHeaders(const RequestMessage& message, pb::BodySendMode mode,
                        std::optional<routing::Outcome>& outcome);
  const char* OnBody(const RequestMessage& part, pb::BodySendMode mode,
                     std::optional<routing::Outcome>& outcome);
  const char* OnTrailers(std::optional<routing::Outcome>& outcome);

  bool started() const { return state_ != State::kIdle; }
  bool complete() const { return state_ == State::kComplete; }
  // The headers were the last that will be seen of the answer: it ends with its stream.
  bool unseen() const { return unseen_; }
  int status() const { return status_; }

 private:
  enum class State { kIdle, kBody, kComplete };
  void ReadHeaders(const RequestMessage& message, std::optional<routing::Outcome>& outcome);
  // `rest`: of the body, what the scanner was not given.
  void Complete(std::optional<routing::Outcome>& outcome, std::string_view rest = {});

  Sink& sink_;
  const bool conformance_headers_;
  State state_ = State::kIdle;
  bool unseen_ = false;
  int status_ = 0;
  std::optional<routing::UsageScanner> usage_;
};

}  // namespace warmpath::extproc
