// Frames around event batches: the three of a live message, and the replay ROUTER's request and
// replies in both framings (with the topic frame since vLLM 0.26, without it before and in SGLang).
// Views point into the frames given. Pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace warmpath::kv {

// 8 bytes, big-endian.
std::string SequenceBytes(uint64_t sequence);

struct LiveMessage {
  std::string_view topic;
  uint64_t sequence = 0;
  std::string_view payload;
};
// Exactly [topic, sequence (at least 8 bytes, the first 8 count), payload].
Result<LiveMessage> ParseLiveMessage(std::span<const std::string_view> frames);
std::vector<std::string> LiveFrames(std::string_view topic, uint64_t sequence,
                                    std::string_view payload);

enum class ReplayFraming { kPlain, kWithTopic };  // 2 or 3 frames after the delimiter

// What a DEALER sends: ["", start].
std::vector<std::string> ReplayRequestFrames(uint64_t start);
// What a ROUTER received: [identity, delimiter, start]; nullopt for anything else (the engine
// ignores it). `start` of any length is a big-endian number, as in the engine; one that does not
// fit is the largest.
std::optional<uint64_t> ParseReplayRequest(std::span<const std::string_view> frames);

// What a ROUTER sends after the identity frame, delimiter included.
std::vector<std::string> ReplayBatchFrames(ReplayFraming framing, std::string_view topic,
                                           uint64_t sequence, std::string_view payload);
std::vector<std::string> ReplayEndFrames(ReplayFraming framing);

struct ReplayReply {
  bool end = false;  // the marker after the last batch; the fields below are then unset
  ReplayFraming framing = ReplayFraming::kWithTopic;
  std::string_view topic;
  uint64_t sequence = 0;
  std::string_view payload;
};
// What a DEALER received. The leading delimiter may be missing from the form with a topic.
Result<ReplayReply> ParseReplayReply(std::span<const std::string_view> frames);

}  // namespace warmpath::kv
