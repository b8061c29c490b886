#include "net/reactor.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <string>
#include <thread>

#include "net/body_buffers.h"
#include "net/tcp_socket.h"

namespace warmpath::net {
namespace {

// A socket on the reactor and its peer.
struct Pair {
  explicit Pair(Reactor& reactor) : Pair(reactor, Connected()) {}
  Pair(Reactor& reactor, std::array<int, 2> fds) : ours(reactor, fds[0]), peer(fds[1]) {}
  static std::array<int, 2> Connected() {
    std::array<int, 2> fds{};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds.data()), 0);
    return fds;
  }
  ~Pair() { HangUp(); }
  void Send(std::string_view bytes) const {
    EXPECT_EQ(send(peer, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  }
  void HangUp() {
    if (peer >= 0) close(peer);
    peer = -1;
  }
  std::string Read(size_t most, error_code& error) {
    std::string bytes(most, '\0');
    bytes.resize(ours.read_some(asio::buffer(bytes.data(), bytes.size()), error));
    return bytes;
  }

  TcpSocket ours;
  int peer = -1;
};

class ReactorTest : public ::testing::Test {
 protected:
  void TurnAtOnce() { reactor_.Turn(SystemClock().Now()); }

  Reactor reactor_;
  int called_ = 0;
  error_code error_;
};

TEST_F(ReactorTest, TellsOnceThatThereIsSomethingToRead) {
  Pair pair(reactor_);
  pair.ours.async_wait(TcpSocket::wait_read, [this](const error_code&) { ++called_; });
  TurnAtOnce();
  EXPECT_EQ(called_, 0);
  pair.Send("abc");
  TurnAtOnce();
  TurnAtOnce();
  EXPECT_EQ(called_, 1);
  EXPECT_EQ(pair.Read(16, error_), "abc");
}

TEST_F(ReactorTest, WhatAShortReadEmptiedIsWaitedForUntilMoreComes) {
  Pair pair(reactor_);
  pair.Send("abc");
  TurnAtOnce();
  EXPECT_EQ(pair.Read(16, error_), "abc");
  pair.ours.async_wait(TcpSocket::wait_read, [this](const error_code&) { ++called_; });
  TurnAtOnce();
  EXPECT_EQ(called_, 0);
  pair.Send("d");
  TurnAtOnce();
  EXPECT_EQ(called_, 1);
}

TEST_F(ReactorTest, WhatAReadLeftIsToldWithoutNewBytes) {
  Pair pair(reactor_);
  pair.Send("abcd");
  TurnAtOnce();
  EXPECT_EQ(pair.Read(2, error_), "ab");
  pair.ours.async_wait(TcpSocket::wait_read, [this](const error_code&) { ++called_; });
  EXPECT_EQ(called_, 0);
  TurnAtOnce();
  EXPECT_EQ(called_, 1);
  EXPECT_EQ(pair.Read(2, error_), "cd");
}

TEST_F(ReactorTest, AnEndThatCameWithTheLastBytesIsTold) {
  Pair pair(reactor_);
  pair.Send("abc");
  pair.HangUp();
  TurnAtOnce();
  EXPECT_EQ(pair.Read(16, error_), "abc");
  pair.ours.async_wait(TcpSocket::wait_read, [this](const error_code&) { ++called_; });
  TurnAtOnce();
  EXPECT_EQ(called_, 1);
  pair.Read(16, error_);
  EXPECT_EQ(error_.value(), asio::error::eof);
}

TEST_F(ReactorTest, AFullSocketIsToldWhenItTakesBytesAgain) {
  Pair pair(reactor_);
  const std::string bytes(1 << 16, 'x');
  size_t sent = 0;
  do {
    sent += pair.ours.write_some(bytes, {}, error_);
  } while (!error_);
  EXPECT_EQ(error_, asio::error::would_block);
  TurnAtOnce();
  pair.ours.async_wait(TcpSocket::wait_write, [this](const error_code&) { ++called_; });
  TurnAtOnce();
  EXPECT_EQ(called_, 0);
  std::string taken(1 << 16, '\0');
  while (sent > 0) sent -= static_cast<size_t>(recv(pair.peer, taken.data(), taken.size(), 0));
  TurnAtOnce();
  EXPECT_EQ(called_, 1);
}

TEST_F(ReactorTest, ClosingASocketDropsItsEventOfTheSameTurn) {
  Pair first(reactor_), second(reactor_);
  const auto close_both = [&](const error_code&) {
    ++called_;
    first.ours.close(error_);
    second.ours.close(error_);
  };
  first.Send("a");
  second.Send("b");
  first.ours.async_wait(TcpSocket::wait_read, close_both);
  second.ours.async_wait(TcpSocket::wait_read, close_both);
  TurnAtOnce();
  TurnAtOnce();
  EXPECT_EQ(called_, 1);
}

TEST_F(ReactorTest, AWaiterThatOwnsItsSocketGoesWithIt) {
  auto pair = std::make_shared<Pair>(reactor_);
  const std::weak_ptr<Pair> weak = pair;
  pair->ours.async_wait(TcpSocket::wait_read, [pair](const error_code&) {});
  pair->ours.close(error_);
  pair.reset();
  EXPECT_FALSE(weak.expired()) << "not while a caller may be inside";
  TurnAtOnce();
  EXPECT_TRUE(weak.expired());
}

TEST_F(ReactorTest, DeferredWorkRunsAfterTheEventsOfTheTurn) {
  Pair pair(reactor_);
  std::string order;
  reactor_.Defer([&order] { order += "deferred "; });
  pair.ours.async_wait(TcpSocket::wait_read, [&order](const error_code&) { order += "event "; });
  pair.Send("a");
  reactor_.Turn(std::nullopt);
  EXPECT_EQ(order, "event deferred ");
}

TEST_F(ReactorTest, WakeEndsAWaitForEver) {
  std::thread other([this] { reactor_.Wake(); });
  EXPECT_TRUE(reactor_.Turn(std::nullopt));
  other.join();
}

TEST_F(ReactorTest, WaitsNoLongerThanAsked) {
  const TimePoint until = SystemClock().Now() + std::chrono::milliseconds(3);
  EXPECT_FALSE(reactor_.Turn(until));
  EXPECT_GE(SystemClock().Now(), until);
}

TEST(BodyBuffers, GivesTheLargestBackAndKeepsNoMoreThanItsBound) {
  BodyBuffers buffers;
  EXPECT_EQ(buffers.Take(), "");
  buffers.Give(std::string(BodyBuffers::kSmallest - 1, 'a'));
  EXPECT_EQ(buffers.Take(), "");
  buffers.Give(std::string(40'000, 'a'));
  buffers.Give(std::string(80'000, 'b'));
  buffers.Give(std::string(BodyBuffers::kMostBytes, 'c'));
  EXPECT_EQ(buffers.Take().size(), 80'000u);
  EXPECT_EQ(buffers.Take().size(), 40'000u);
  EXPECT_EQ(buffers.Take(), "");
}

}  // namespace
}  // namespace warmpath::net
