// Internal to k8s: the bearer token we send, read again as it is rotated. Loop-confined.
#pragma once

#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "k8s/cluster.h"

namespace warmpath::k8s {

class Credentials {
 public:
  // Fails when there is a token file and nothing to be had from it.
  static Result<Credentials> Create(const ClusterConfig& config, TimePoint now);

  // "" without a token. A file is read again when that was a minute ago; while it cannot be read
  // the last token stays.
  const std::string& Token(TimePoint now);
  // Reads the file at once.
  void Refresh(TimePoint now);

 private:
  Credentials(std::string file, std::string token)
      : file_(std::move(file)), token_(std::move(token)) {}
  static Result<std::string> Read(const std::string& file);

  std::string file_;
  std::string token_;
  TimePoint read_{};
  bool unreadable_ = false;  // and said so
};

}  // namespace warmpath::k8s
