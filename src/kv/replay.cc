#include "kv/replay.h"

#include <fmt/format.h>

#include <limits>

namespace warmpath::kv {

namespace {

constexpr uint64_t kEnd = std::numeric_limits<uint64_t>::max();

uint64_t BigEndian(std::string_view bytes) {
  uint64_t value = 0;
  for (const char c : bytes.substr(0, 8)) value = value << 8 | static_cast<uint8_t>(c);
  return value;
}

}  // namespace

std::string SequenceBytes(uint64_t sequence) {
  std::string out(8, '\0');
  for (int i = 7; i >= 0; --i, sequence >>= 8)
    out[static_cast<size_t>(i)] = static_cast<char>(sequence & 0xff);
  return out;
}

Result<LiveMessage> ParseLiveMessage(std::span<const std::string_view> frames) {
  if (frames.size() != 3) {
    return Fail(Code::kInvalidArgument,
                fmt::format("event message has {} frames instead of 3", frames.size()));
  }
  if (frames[1].size() < 8) {
    return Fail(Code::kInvalidArgument,
                fmt::format("sequence frame has {} bytes instead of 8", frames[1].size()));
  }
  return LiveMessage{frames[0], BigEndian(frames[1]), frames[2]};
}

std::vector<std::string> LiveFrames(std::string_view topic, uint64_t sequence,
                                    std::string_view payload) {
  return {std::string(topic), SequenceBytes(sequence), std::string(payload)};
}

std::vector<std::string> ReplayRequestFrames(uint64_t start) {
  return {"", SequenceBytes(start)};
}

std::optional<uint64_t> ParseReplayRequest(std::span<const std::string_view> frames) {
  if (frames.size() != 3) return std::nullopt;
  std::string_view digits = frames[2];
  while (digits.size() > 8) {
    if (digits.front() != '\0') return kEnd;
    digits.remove_prefix(1);
  }
  return BigEndian(digits);
}

std::vector<std::string> ReplayBatchFrames(ReplayFraming framing, std::string_view topic,
                                           uint64_t sequence, std::string_view payload) {
  if (framing == ReplayFraming::kPlain) return {"", SequenceBytes(sequence), std::string(payload)};
  return {"", std::string(topic), SequenceBytes(sequence), std::string(payload)};
}

std::vector<std::string> ReplayEndFrames(ReplayFraming framing) {
  return ReplayBatchFrames(framing, "", kEnd, "");
}

Result<ReplayReply> ParseReplayReply(std::span<const std::string_view> frames) {
  ReplayReply reply;
  std::string_view sequence;
  if (frames.size() == 4 && frames[0].empty()) {
    reply.topic = frames[1];
    sequence = frames[2];
    reply.payload = frames[3];
  } else if (frames.size() == 3) {
    // ["", seq, payload], or a topic form without its delimiter.
    reply.framing = frames[0].empty() ? ReplayFraming::kPlain : ReplayFraming::kWithTopic;
    reply.topic = frames[0];
    sequence = frames[1];
    reply.payload = frames[2];
  } else {
    return Fail(Code::kInvalidArgument, fmt::format("replay reply has {} frames", frames.size()));
  }
  if (sequence.size() != 8) {
    return Fail(Code::kInvalidArgument,
                fmt::format("sequence frame of a replay reply has {} bytes", sequence.size()));
  }
  reply.sequence = BigEndian(sequence);
  reply.end = reply.payload.empty();
  return reply;
}

}  // namespace warmpath::kv
