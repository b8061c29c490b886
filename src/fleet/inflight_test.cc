#include "fleet/inflight.h"

#include <gtest/gtest.h>

#include <thread>
#include <utility>
#include <vector>

namespace warmpath::fleet {
namespace {

TEST(Inflight, BooksPrefillThenDecodeThenNothing) {
  InflightLedger ledger;
  InflightTicket ticket = ledger.Book(7, 0, 100, 300);
  InflightLoad load = ledger.Load(7);
  EXPECT_EQ(load.requests, 1);
  EXPECT_EQ(load.prefill_requests, 1);
  EXPECT_EQ(load.prefill_tokens, 100);
  EXPECT_EQ(load.decode_tokens, 0);
  ticket.PrefillDone();
  ticket.PrefillDone();
  load = ledger.Load(7);
  EXPECT_EQ(load.requests, 1);
  EXPECT_EQ(load.prefill_requests, 0);
  EXPECT_EQ(load.prefill_tokens, 0);
  EXPECT_EQ(load.decode_tokens, 300);
  ticket.Release();
  ticket.Release();
  load = ledger.Load(7);
  EXPECT_EQ(load.requests, 0);
  EXPECT_EQ(load.decode_tokens, 0);
}

TEST(Inflight, CountsRanksApartAndTogether) {
  InflightLedger ledger;
  const InflightTicket a = ledger.Book(1, 0, 10, 20);
  const InflightTicket b = ledger.Book(1, 3, 5, 20);
  const InflightTicket c = ledger.Book(2, 0, 1, 20);
  EXPECT_EQ(ledger.Load(1).requests, 2);
  EXPECT_EQ(ledger.Load(1).prefill_tokens, 15);
  EXPECT_EQ(ledger.Load(1, 0).prefill_tokens, 10);
  EXPECT_EQ(ledger.Load(1, 3).prefill_tokens, 5);
  EXPECT_EQ(ledger.Load(1, 1).requests, 0);
  EXPECT_EQ(ledger.Load(2).requests, 1);
  EXPECT_EQ(ledger.Load(99).requests, 0);
}

TEST(Inflight, ReleasesWhenTheTicketDies) {
  InflightLedger ledger;
  {
    InflightTicket outer;
    {
      InflightTicket inner = ledger.Book(1, 0, 10, 20);
      outer = std::move(inner);
    }
    EXPECT_EQ(ledger.Load(1).requests, 1);
    outer = ledger.Book(1, 1, 1, 2);  // releases what it held
    EXPECT_EQ(ledger.Load(1).requests, 1);
    EXPECT_EQ(ledger.Load(1, 0).requests, 0);
  }
  EXPECT_EQ(ledger.Load(1).requests, 0);
}

TEST(Inflight, TicketsOutliveTheirEndpointAndTheLedger) {
  InflightTicket ticket;
  {
    InflightLedger ledger;
    ticket = ledger.Book(1, 0, 10, 20);
    ledger.Forget(1);
    EXPECT_EQ(ledger.Load(1).requests, 0);
    EXPECT_EQ(ledger.Load(1, 0).requests, 0);
  }
  ticket.PrefillDone();
  ticket.Release();
}

TEST(Inflight, CountsTokensFromBookingToRelease) {
  InflightLedger ledger;
  InflightTicket ticket = ledger.Book(1, 0, 100, 300, 50);
  EXPECT_EQ(ledger.Load(1).tokens, 150);
  EXPECT_EQ(ledger.Load(1).prefill_tokens, 100);
  ticket.PrefillDone();
  EXPECT_EQ(ledger.Load(1).tokens, 150);
  EXPECT_EQ(ledger.Load(1).decode_tokens, 350);
  ticket.Release();
  EXPECT_EQ(ledger.Load(1).tokens, 0);
  EXPECT_EQ(ledger.Load(1).decode_tokens, 0);
}

TEST(Inflight, AGaugeReadsWhatIsBookedBeforeAndAfterItWasMade) {
  InflightLedger ledger;
  const InflightTicket before = ledger.Book(1, 0, 100, 200);
  const std::vector<InflightGauge> gauges = ledger.Gauges({1, 2});
  EXPECT_EQ(gauges[0].Read().prefill_tokens, 100);
  EXPECT_EQ(gauges[1].Read().requests, 0);
  const InflightTicket after = ledger.Book(2, 1, 30, 30);
  EXPECT_EQ(gauges[1].Read().prefill_tokens, 30);
  ledger.Forget(2);
  EXPECT_EQ(gauges[1].Read().requests, 1);
  EXPECT_EQ(InflightGauge().Read().requests, 0);
}

TEST(Inflight, MovesABookingToWhoServesIt) {
  InflightLedger ledger;
  InflightTicket prefilling = ledger.Book(1, 0, 100, 300, 50);
  InflightTicket decoding = ledger.Book(1, 0, 10, 30);
  decoding.PrefillDone();
  prefilling.MoveTo(2, 3);
  decoding.MoveTo(2, 0);
  decoding.MoveTo(2, 0);
  EXPECT_EQ(ledger.Load(1).requests, 0);
  EXPECT_EQ(ledger.Load(1).tokens, 0);
  EXPECT_EQ(ledger.Load(2).requests, 2);
  EXPECT_EQ(ledger.Load(2).prefill_requests, 1);
  EXPECT_EQ(ledger.Load(2).prefill_tokens, 100);
  EXPECT_EQ(ledger.Load(2).decode_tokens, 30);
  EXPECT_EQ(ledger.Load(2).tokens, 160);
  EXPECT_EQ(ledger.Load(2, 3).requests, 1);
  prefilling.PrefillDone();
  EXPECT_EQ(ledger.Load(2, 3).decode_tokens, 350);
  prefilling.Release();
  prefilling.MoveTo(5, 0);
  decoding = {};
  EXPECT_EQ(ledger.Load(2).requests, 0);
  EXPECT_EQ(ledger.Load(2).tokens, 0);
  EXPECT_EQ(ledger.Load(5).requests, 0);
  InflightTicket orphan = InflightLedger().Book(1, 0, 1, 1);
  orphan.MoveTo(2, 0);
  orphan.Release();
}

TEST(Inflight, RetainForgetsWhoLeftLateBookingsIncluded) {
  InflightLedger ledger;
  const InflightTicket kept = ledger.Book(1, 0, 1, 1);
  const InflightTicket late = ledger.Book(2, 0, 1, 1);
  ledger.Retain({7, 1});
  EXPECT_EQ(ledger.Load(1).requests, 1);
  EXPECT_EQ(ledger.Load(2).requests, 0);
  EXPECT_EQ(ledger.Load(2, 0).requests, 0);
}

TEST(Inflight, BalancesUnderConcurrency) {
  InflightLedger ledger;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&ledger, t] {
      for (int i = 0; i < 2000; ++i) {
        InflightTicket ticket =
            ledger.Book(static_cast<EndpointId>(i % 5), static_cast<uint16_t>(t), 3, 9);
        if (i % 2) ticket.PrefillDone();
        EXPECT_GE(ledger.Load(static_cast<EndpointId>(i % 5)).requests, 1);
        if (i % 3 == 0) ticket.MoveTo(static_cast<EndpointId>((i + 1) % 5), 9);
        if (i % 500 == 0) ledger.Forget(100 + static_cast<EndpointId>(t));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (EndpointId id = 0; id < 5; ++id) {
    const InflightLoad load = ledger.Load(id);
    EXPECT_EQ(load.requests, 0);
    EXPECT_EQ(load.prefill_requests, 0);
    EXPECT_EQ(load.prefill_tokens, 0);
    EXPECT_EQ(load.decode_tokens, 0);
    EXPECT_EQ(load.tokens, 0);
  }
}

}  // namespace
}  // namespace warmpath::fleet
