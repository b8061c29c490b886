#include "net/tls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <thread>

#include "net/tls_testing.h"

namespace warmpath::net {
namespace {

using testing::Authority;
using ::testing::HasSubstr;
using testing::Identity;
using testing::OtherAuthority;
using testing::SessionPair;
using ::testing::StartsWith;
using testing::TestAuthority;
using testing::TestDirectory;
using testing::TestServer;
using testing::WriteIdentity;

class TlsTest : public ::testing::Test {
 protected:
  TlsTest() : ca_file_(directory_.Write("ca.crt", TestAuthority().pem())) {
    server_options_.cert_dir = WriteIdentity(directory_, "server", TestServer());
    client_options_.ca_file = ca_file_;
  }

  static std::shared_ptr<TlsContext> Server(const TlsServerOptions& options) {
    auto context = TlsContext::Server(options);
    EXPECT_TRUE(context) << context.error().message;
    return context ? *context : nullptr;
  }
  static std::shared_ptr<TlsContext> Client(const TlsClientOptions& options) {
    auto context = TlsContext::Client(options);
    EXPECT_TRUE(context) << context.error().message;
    return context ? *context : nullptr;
  }
  // Handshake with the options as they are.
  SessionPair Meet(const std::string& name = "engine.test", size_t step = SIZE_MAX / 2) {
    SessionPair pair{.client = Client(client_options_)->NewSession(name),
                     .server = Server(server_options_)->NewSession("")};
    pair.Pump(step);
    return pair;
  }
  static std::string ServerError(const TlsServerOptions& options) {
    const auto context = TlsContext::Server(options);
    EXPECT_FALSE(context);
    return context ? "" : context.error().message;
  }
  static std::string ClientError(const TlsClientOptions& options) {
    const auto context = TlsContext::Client(options);
    EXPECT_FALSE(context);
    return context ? "" : context.error().message;
  }

  TestDirectory directory_;
  std::string ca_file_;
  TlsServerOptions server_options_;
  TlsClientOptions client_options_;
};

// A client with everything the library can do, old versions included; what it sends first.
std::string FirstFlight(int version) {
  const SslContextPtr context(SSL_CTX_new(TLS_client_method()));
  SSL_CTX_set_security_level(context.get(), 0);
  SSL_CTX_set_min_proto_version(context.get(), version);
  SSL_CTX_set_max_proto_version(context.get(), version);
  SSL* ssl = SSL_new(context.get());
  BIO* out = BIO_new(BIO_s_mem());
  SSL_set_bio(ssl, BIO_new(BIO_s_mem()), out);
  SSL_set_connect_state(ssl);
  SSL_do_handshake(ssl);
  ERR_clear_error();
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(out, &bytes);
  std::string flight(bytes, static_cast<size_t>(size));
  SSL_free(ssl);
  return flight;
}

TEST_F(TlsTest, BytesPassBothWaysHoweverTheyAreCut) {
  for (const size_t step : {size_t{1}, size_t{7}, size_t{1000}, SIZE_MAX / 2}) {
    SessionPair pair = Meet("engine.test", step);
    ASSERT_TRUE(pair.client->established());
    ASSERT_TRUE(pair.server->established());
    std::string large(100'000, '\0');
    for (size_t i = 0; i < large.size(); ++i) large[i] = static_cast<char>(i * 31 >> 3);
    ASSERT_TRUE(pair.client->Write("ping"));
    ASSERT_TRUE(pair.client->Write(large));
    ASSERT_TRUE(pair.server->Write(large));
    pair.Pump(step);
    EXPECT_TRUE(pair.server_got == "ping" + large);
    EXPECT_TRUE(pair.client_got == large);
    EXPECT_TRUE(pair.client_status);
    EXPECT_TRUE(pair.server_status);
  }
}

TEST_F(TlsTest, WhatIsWrittenBeforeTheHandshakeFollowsIt) {
  SessionPair pair{.client = Client(client_options_)->NewSession("engine.test"),
                   .server = Server(server_options_)->NewSession("")};
  ASSERT_TRUE(pair.client->Write("early "));
  ASSERT_TRUE(pair.client->Write("bird"));
  ASSERT_TRUE(pair.server->Write("settings"));
  EXPECT_FALSE(pair.client->Write(std::string(2 << 20, 'x')));
  pair.Pump();
  EXPECT_EQ(pair.server_got, "early bird");
  EXPECT_EQ(pair.client_got, "settings");
}

TEST_F(TlsTest, TheServersPreferenceDecidesTheProtocol) {
  server_options_.alpn = {"h2"};
  client_options_.alpn = {"http/1.1", "h2"};
  SessionPair pair = Meet();
  EXPECT_EQ(pair.client->protocol(), "h2");
  EXPECT_EQ(pair.server->protocol(), "h2");
  client_options_.alpn = {};
  pair = Meet();
  EXPECT_TRUE(pair.server->established());
  EXPECT_EQ(pair.server->protocol(), "");
  client_options_.alpn = {"spdy"};
  pair = Meet();
  ASSERT_FALSE(pair.server_status);
  EXPECT_THAT(pair.server_status.error().message, HasSubstr("ALPN"));
  ASSERT_FALSE(pair.client_status);
  EXPECT_EQ(pair.client_status.error().message, "the peer refused: no application protocol");
}

TEST_F(TlsTest, AnAddressIsVerifiedAsOne) {
  EXPECT_TRUE(Meet("127.0.0.1").client->established());
  EXPECT_TRUE(Meet("::1").client->established());
  const SessionPair pair = Meet("127.0.0.2");
  ASSERT_FALSE(pair.client_status);
  EXPECT_THAT(pair.client_status.error().message, HasSubstr("IP address mismatch"));
}

TEST_F(TlsTest, ACertificateOfAnotherNameIsRefused) {
  const SessionPair pair = Meet("other.test");
  ASSERT_FALSE(pair.client_status);
  EXPECT_EQ(pair.client_status.error().message,
            "the peer's certificate is not accepted: hostname mismatch");
  EXPECT_FALSE(pair.client->established());
  ASSERT_FALSE(pair.server_status);
  EXPECT_THAT(pair.server_status.error().message, StartsWith("the peer refused: "));
  EXPECT_FALSE(Meet("").client->Write(""));
}

TEST_F(TlsTest, ACertificateOfAnotherAuthorityIsRefused) {
  client_options_.ca_file = directory_.Write("other.crt", OtherAuthority().pem());
  const SessionPair pair = Meet();
  ASSERT_FALSE(pair.client_status);
  EXPECT_THAT(pair.client_status.error().message,
              StartsWith("the peer's certificate is not accepted: "));
  client_options_.verify = false;
  EXPECT_TRUE(Meet("whatever").client->established());
}

TEST_F(TlsTest, AnExpiredCertificateIsRefused) {
  server_options_.cert_dir =
      WriteIdentity(directory_, "expired",
                    TestAuthority().Issue("DNS:engine.test", false, -std::chrono::hours(2),
                                          -std::chrono::hours(1)));
  const SessionPair pair = Meet();
  ASSERT_FALSE(pair.client_status);
  EXPECT_THAT(pair.client_status.error().message, HasSubstr("expired"));
}

TEST_F(TlsTest, ASelfSignedServerServesClientsThatDoNotVerify) {
  server_options_ = {};
  server_options_.alpn = {"h2"};
  client_options_ = {.verify = false};
  client_options_.alpn = {"h2"};
  const auto server = Server(server_options_);
  SessionPair pair{.client = Client(client_options_)->NewSession(""),
                   .server = server->NewSession("")};
  pair.Pump();
  EXPECT_TRUE(pair.client->established());
  EXPECT_EQ(pair.server->protocol(), "h2");
  const std::string fingerprint = server->Fingerprint();
  EXPECT_EQ(fingerprint.size(), 64u);
  EXPECT_TRUE(server->Reload());
  EXPECT_EQ(server->Fingerprint(), fingerprint);
}

TEST_F(TlsTest, ClientsShowACertificateWhereOneIsDemanded) {
  server_options_.client_ca_file = ca_file_;
  SessionPair none = Meet();
  ASSERT_FALSE(none.server_status);
  EXPECT_EQ(none.server_status.error().message, "the peer presented no certificate");
  ASSERT_FALSE(none.client_status);
  EXPECT_THAT(none.client_status.error().message, StartsWith("the peer refused: "));

  const auto use = [&](const std::string& name, const Identity& identity) {
    const std::string where = WriteIdentity(directory_, name, identity);
    client_options_.cert_file = where + "/tls.crt";
    client_options_.key_file = where + "/tls.key";
  };
  use("stranger", OtherAuthority().Issue("", true));
  EXPECT_FALSE(Meet().server_status);
  use("not-a-client", TestAuthority().Issue("DNS:engine.test", false));
  EXPECT_FALSE(Meet().server_status);
  use("friend", TestAuthority().Issue("", true));
  const SessionPair pair = Meet();
  EXPECT_TRUE(pair.server->established());
  EXPECT_TRUE(pair.server_status);
}

TEST_F(TlsTest, PemTextDoesWhatFilesDo) {
  const testing::Identity mine = TestAuthority().Issue("DNS:me", /*client=*/true);
  server_options_.client_ca_file = ca_file_;
  client_options_ = {
      .ca_pem = TestAuthority().pem(), .cert_pem = mine.cert_pem(), .key_pem = mine.key_pem()};
  SessionPair pair = Meet();
  EXPECT_TRUE(pair.client->established());
  EXPECT_TRUE(pair.server->established()) << pair.server_status.error().message;
  // Text comes before the file.
  client_options_.ca_file = directory_.Write("other.crt", testing::OtherAuthority().pem());
  EXPECT_TRUE(Meet().server->established());
  EXPECT_THAT(ClientError({.ca_pem = "x"}),
              StartsWith("the authorities' certificates: no certificate"));
  EXPECT_THAT(ClientError({.ca_pem = client_options_.ca_pem,
                           .cert_pem = mine.cert_pem(),
                           .key_pem = TestServer().key_pem()}),
              HasSubstr("the client's key: not the key of the certificate in the client's"));
  EXPECT_THAT(ClientError({.ca_pem = client_options_.ca_pem, .cert_pem = mine.cert_pem()}),
              HasSubstr("needs its key"));
}

TEST_F(TlsTest, TheNameToVerifyMayBeGiven) {
  client_options_.server_name = "engine.test";
  EXPECT_TRUE(Meet("elsewhere.test").client->established());
  client_options_.server_name = "elsewhere.test";
  EXPECT_FALSE(Meet("engine.test").client->established());
}

TEST_F(TlsTest, OldVersionsAreRefused) {
  const auto server = Server(server_options_);
  for (const int version : {TLS1_VERSION, TLS1_1_VERSION}) {
    const auto session = server->NewSession("");
    std::string got;
    const Status status = session->Feed(FirstFlight(version), got);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().message,
              "the peer offers only TLS versions that are not allowed here");
    std::string alert;
    session->TakeOutput(alert);
    ASSERT_EQ(alert.size(), 7u);
    EXPECT_EQ(alert[0], 21);  // alert
    EXPECT_EQ(alert[6], 70);  // protocol_version
  }
  server_options_.min_version = "VersionTLS13";
  std::string got;
  EXPECT_FALSE(Server(server_options_)->NewSession("")->Feed(FirstFlight(TLS1_2_VERSION), got));
  EXPECT_TRUE(Meet().client->established());
}

TEST_F(TlsTest, VersionNamesAreGos) {
  server_options_.min_version = "VersionTLS12";
  EXPECT_TRUE(TlsContext::Server(server_options_));
  for (const char* old : {"VersionTLS10", "VersionTLS11"}) {
    server_options_.min_version = old;
    EXPECT_EQ(ServerError(server_options_),
              std::string(old) + " is not secure and not offered; the lowest is VersionTLS12");
  }
  server_options_.min_version = "1.2";
  EXPECT_THAT(ServerError(server_options_), HasSubstr("\"1.2\" is no TLS version"));
}

TEST_F(TlsTest, CipherSuiteNamesAreGos) {
  const auto suite_with = [&](std::vector<std::string> names, int version) {
    server_options_.cipher_suites = std::move(names);
    const auto session = Server(server_options_)->NewSession("");
    std::string got;
    const Status status = session->Feed(FirstFlight(version), got);
    if (!status) return status.error().message;
    std::string hello;
    session->TakeOutput(hello);
    // Record and handshake headers, version, random, then the session id before the suite.
    const size_t at = 5 + 4 + 2 + 32;
    const size_t id = static_cast<unsigned char>(hello[at]);
    return Hex(std::span(reinterpret_cast<const uint8_t*>(hello.data()) + at + 1 + id, 2));
  };
  EXPECT_EQ(suite_with({"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"}, TLS1_2_VERSION), "c030");
  EXPECT_EQ(suite_with({"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}, TLS1_2_VERSION), "c02f");
  EXPECT_EQ(suite_with({"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"}, TLS1_2_VERSION), "cca8");
  EXPECT_EQ(suite_with({"TLS_RSA_WITH_AES_128_CBC_SHA"}, TLS1_2_VERSION), "002f");
  // The key is RSA: nothing in common, and said so.
  EXPECT_EQ(suite_with({"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"}, TLS1_2_VERSION),
            "no cipher suite in common with the peer");
  EXPECT_EQ(suite_with({"TLS_AES_128_GCM_SHA256"}, TLS1_2_VERSION),
            "the peer offers only TLS versions that are not allowed here");
  server_options_.cipher_suites = {"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "TLS_OF_MY_OWN"};
  EXPECT_EQ(ServerError(server_options_), "\"TLS_OF_MY_OWN\" is no known cipher suite");
  server_options_.cipher_suites = {"TLS_RSA_WITH_RC4_128_SHA"};
  EXPECT_EQ(ServerError(server_options_),
            "cipher suite TLS_RSA_WITH_RC4_128_SHA is not secure and not offered");
}

TEST_F(TlsTest, AReloadServesNewSessionsAndLeavesOldOnes) {
  const auto server = Server(server_options_);
  const auto client = Client(client_options_);
  SessionPair old{.client = client->NewSession("engine.test"), .server = server->NewSession("")};
  old.Pump();
  const std::string before = server->Fingerprint();

  WriteIdentity(directory_, "server", TestAuthority().Issue("DNS:engine.test"));
  ASSERT_TRUE(server->Reload());
  EXPECT_NE(server->Fingerprint(), before);
  ASSERT_TRUE(old.client->Write("still"));
  old.Pump();
  EXPECT_EQ(old.server_got, "still");
  SessionPair fresh{.client = client->NewSession("engine.test"), .server = server->NewSession("")};
  fresh.Pump();
  EXPECT_TRUE(fresh.client->established());
}

TEST_F(TlsTest, AFailedReloadKeepsWhatIsInUse) {
  const auto server = Server(server_options_);
  const std::string before = server->Fingerprint();
  directory_.Write("server/tls.key", "gone wrong");
  const Status status = server->Reload();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message,
            server_options_.cert_dir + "/tls.key: no private key in PEM form");
  EXPECT_EQ(server->Fingerprint(), before);
  SessionPair pair{.client = Client(client_options_)->NewSession("engine.test"),
                   .server = server->NewSession("")};
  pair.Pump();
  EXPECT_TRUE(pair.client->established());
}

TEST_F(TlsTest, ReloadsAndSessionsMayRunOnDifferentThreads) {
  const auto server = Server(server_options_);
  const auto client = Client(client_options_);
  std::thread reloader([&] {
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(server->Reload());
  });
  for (int i = 0; i < 20; ++i) {
    SessionPair pair{.client = client->NewSession("engine.test"), .server = server->NewSession("")};
    pair.Pump();
    EXPECT_TRUE(pair.client->established());
  }
  reloader.join();
}

TEST_F(TlsTest, ErrorsOfFilesAreOneLineThatNamesTheFile) {
  const std::string dir = server_options_.cert_dir;
  const std::string crt = dir + "/tls.crt";
  const std::string key = dir + "/tls.key";
  const std::string good_cert = TestServer().cert_pem();
  const std::string good_key = TestServer().key_pem();
  const auto with = [&](const std::string& cert_text, const std::string& key_text) {
    directory_.Write("server/tls.crt", cert_text);
    directory_.Write("server/tls.key", key_text);
    const std::string error = ServerError(server_options_);
    EXPECT_EQ(error.find('\n'), std::string::npos);
    return error;
  };
  EXPECT_EQ(with("", good_key), crt + ": no certificate in PEM form");
  EXPECT_EQ(with(good_key, good_key), crt + ": no certificate in PEM form");
  std::string damaged = good_cert;
  damaged[200] = '!';
  EXPECT_THAT(with(damaged, good_key), StartsWith(crt + ": certificate 1 is damaged: "));
  EXPECT_THAT(with(good_cert + good_cert.substr(0, 300), good_key),
              StartsWith(crt + ": certificate 2 is damaged: "));
  EXPECT_EQ(with(good_cert, good_cert), key + ": no private key in PEM form");
  EXPECT_EQ(with(good_cert, testing::Pem(TestServer().key.get(), "secret")),
            key + ": the private key is encrypted; give one that is not");
  EXPECT_EQ(with(good_cert, TestAuthority().Issue("").key_pem()),
            key + ": not the key of the certificate in " + crt);
  EXPECT_EQ(with(std::string(5 << 20, 'x'), good_key),
            "cannot read " + crt + ": larger than 4194304 bytes");
  server_options_.cert_dir = directory_.Path("nowhere");
  EXPECT_EQ(ServerError(server_options_),
            "cannot read " + directory_.Path("nowhere") + "/tls.crt: No such file or directory");
  client_options_.ca_file = directory_.path();
  EXPECT_EQ(ClientError(client_options_),
            "cannot read " + directory_.path() + ": not a regular file");
  client_options_ = {.cert_file = "a.crt"};
  EXPECT_THAT(ClientError(client_options_), HasSubstr("needs its key"));
}

TEST_F(TlsTest, WhatIsNotTlsIsRefused) {
  const auto server = Server(server_options_);
  const std::pair<std::string, std::string> rows[] = {
      {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "the peer speaks plain HTTP, not TLS"},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "the peer does not speak TLS"},
      {std::string(2000, '\xff'), "the peer does not speak TLS"},
      {std::string("\x16\x03\x01\xff\xff", 5) + std::string(70'000, 'x'),
       "the peer does not speak TLS"},
  };
  for (const auto& [bytes, reason] : rows) {
    const auto session = server->NewSession("");
    std::string got;
    const Status status = session->Feed(bytes, got);
    ASSERT_FALSE(status) << bytes.substr(0, 20);
    EXPECT_EQ(status.error().message, reason) << bytes.substr(0, 20);
    EXPECT_EQ(got, "");
    // And so it stays.
    EXPECT_EQ(session->Feed("x", got).error().message, reason);
    EXPECT_EQ(session->Write("x").error().message, reason);
    session->Close();
  }
}

TEST_F(TlsTest, ADamagedRecordEndsTheSession) {
  SessionPair pair = Meet();
  ASSERT_TRUE(pair.client->Write("good"));
  pair.Pump();
  ASSERT_TRUE(pair.client->Write("bad"));
  std::string wire;
  pair.client->TakeOutput(wire);
  wire.back() ^= 1;
  const Status status = pair.server->Feed(wire, pair.server_got);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message, "a record was damaged on its way");
  EXPECT_EQ(pair.server_got, "good");
  EXPECT_FALSE(pair.server->established());
}

TEST_F(TlsTest, ARecordCutShortWaitsForItsRest) {
  SessionPair pair = Meet();
  ASSERT_TRUE(pair.client->Write("whole"));
  std::string wire;
  pair.client->TakeOutput(wire);
  const std::string_view view = wire;
  ASSERT_TRUE(pair.server->Feed(view.substr(0, wire.size() - 1), pair.server_got));
  EXPECT_EQ(pair.server_got, "");
  EXPECT_FALSE(pair.server->peer_closed());
  ASSERT_TRUE(pair.server->Feed(view.substr(wire.size() - 1), pair.server_got));
  EXPECT_EQ(pair.server_got, "whole");
}

TEST_F(TlsTest, CloseNotifyTellsTheEndFromACut) {
  SessionPair pair = Meet();
  ASSERT_TRUE(pair.client->Write("last"));
  pair.client->Close();
  pair.client->Close();
  EXPECT_FALSE(pair.client->Write("more"));
  pair.Pump();
  EXPECT_EQ(pair.server_got, "last");
  EXPECT_TRUE(pair.server->peer_closed());
  EXPECT_FALSE(pair.client->peer_closed());
  // The other direction is still open.
  ASSERT_TRUE(pair.server->Write("answer"));
  pair.server->Close();
  pair.Pump();
  EXPECT_EQ(pair.client_got, "answer");
  EXPECT_TRUE(pair.client->peer_closed());
}

// Asks for key updates, with `plaintext` before each, until the server ends the session or `most`
// are sent: how many were.
int KeyUpdatesTaken(TlsSession& server, size_t plaintext, int most) {
  const SslContextPtr context(SSL_CTX_new(TLS_client_method()));
  SSL* ssl = SSL_new(context.get());
  BIO* in = BIO_new(BIO_s_mem());
  BIO* out = BIO_new(BIO_s_mem());
  SSL_set_bio(ssl, in, out);
  SSL_set_connect_state(ssl);
  std::string got;
  Status status;
  const auto exchange = [&] {
    char* bytes = nullptr;
    const long size = BIO_get_mem_data(out, &bytes);
    if (size > 0) status = server.Feed({bytes, static_cast<size_t>(size)}, got);
    BIO_reset(out);
    std::string answer;
    server.TakeOutput(answer);
    BIO_write(in, answer.data(), static_cast<int>(answer.size()));
  };
  while (SSL_do_handshake(ssl) != 1) exchange();
  exchange();
  EXPECT_TRUE(server.established());
  const std::string data(plaintext, 'x');
  int sent = 0;
  while (status && sent < most) {
    if (!data.empty()) SSL_write(ssl, data.data(), static_cast<int>(data.size()));
    EXPECT_EQ(SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED), 1);
    EXPECT_EQ(SSL_do_handshake(ssl), 1);
    ++sent;
    exchange();
    char byte = 0;
    SSL_read(ssl, &byte, 1);
  }
  SSL_free(ssl);
  ERR_clear_error();
  return sent;
}

TEST_F(TlsTest, KeyUpdatesWithoutEndEndTheSession) {
  const auto context = Server(server_options_);
  EXPECT_LT(KeyUpdatesTaken(*context->NewSession(""), 0, 100), 20);
}

TEST_F(TlsTest, ALittlePlaintextBetweenKeyUpdatesDoesNotExcuseThem) {
  const auto context = Server(server_options_);
  EXPECT_LT(KeyUpdatesTaken(*context->NewSession(""), 1, 100), 20);
}

TEST_F(TlsTest, KeyUpdatesBetweenMuchPlaintextAreFine) {
  const auto context = Server(server_options_);
  EXPECT_EQ(KeyUpdatesTaken(*context->NewSession(""), 20'000, 100), 100);
}

}  // namespace
}  // namespace warmpath::net
