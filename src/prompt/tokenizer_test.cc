#include "prompt/tokenizer.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <random>

#include "prompt/shared_tokenizer.h"
#include "prompt/test_tokenizers.h"
#include "prompt/tiny_tokenizer.h"

namespace warmpath::prompt {
namespace {

namespace fs = std::filesystem;

class TinyTokenizer : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = fs::temp_directory_path() /
           fmt::format("warmpath-tiny-{}-{}", getpid(),
                       testing::UnitTest::GetInstance()->current_test_info()->name());
  }
  void TearDown() override { fs::remove_all(dir_); }

  std::shared_ptr<const Tokenizer> WithTemplate(const std::string& chat_template) {
    WriteTinyTokenizer(dir_, chat_template);
    auto loaded = Tokenizer::Load(dir_.string());
    EXPECT_TRUE(loaded.has_value()) << loaded.error().message;
    return loaded.value_or(nullptr);
  }
  Result<std::string> Render(const std::string& chat_template, const std::string& context,
                             int64_t now = -1) {
    return WithTemplate(chat_template)->RenderChat(context, now);
  }

  fs::path dir_;
};

TEST_F(TinyTokenizer, IsSharedWhileInUse) {
  WriteTinyTokenizer(dir_, kTinyTemplate);
  const auto first = LoadSharedTokenizer(dir_.string()).value();
  EXPECT_EQ(LoadSharedTokenizer((dir_ / ".").string()).value(), first);
  EXPECT_FALSE(LoadSharedTokenizer((dir_ / "missing").string()));
}

TEST_F(TinyTokenizer, KnowsItsVocabularyAndSpecialTokens) {
  const auto tokenizer = WithTemplate(kTinyTemplate);
  EXPECT_EQ(tokenizer->backend(), "fastokens") << tokenizer->fallback_reason();
  EXPECT_EQ(tokenizer->vocab_size(), kTinyVocab);
  EXPECT_EQ(tokenizer->Encode("<turn>A", false).value(), (std::vector<kv::TokenId>{258, 'A'}));
  EXPECT_EQ(tokenizer->Encode("A", true).value(), (std::vector<kv::TokenId>{kTinyBos, 'A'}));
  EXPECT_EQ(tokenizer->Encode("", false).value(), std::vector<kv::TokenId>{});
}

TEST_F(TinyTokenizer, DecodesBrokenUtf8AsReplacementAndLeavesSpecialTokensOutWhenAsked) {
  const auto tokenizer = WithTemplate(kTinyTemplate);
  const std::vector<kv::TokenId> ids = {258, 'h', 0xC3, 259, 'i', 4'000'000};
  EXPECT_EQ(tokenizer->Decode(ids, false).value(), "<turn>h\xEF\xBF\xBD<end>i");
  EXPECT_EQ(tokenizer->Decode(ids, true).value(), "h\xEF\xBF\xBDi");
  EXPECT_EQ(tokenizer->Decode({}, true).value(), "");
}

TEST_F(TinyTokenizer, RefusesTextThatIsNotUtf8) {
  const auto ids = WithTemplate(kTinyTemplate)->Encode("a\xFF", false);
  ASSERT_FALSE(ids.has_value());
  EXPECT_EQ(ids.error().code, Code::kInvalidArgument);
}

TEST_F(TinyTokenizer, FallsBackToTheReferenceForOtherModelKinds) {
  WriteTinyTokenizer(
      dir_, "",
      R"({"version":"1.0","added_tokens":[],"normalizer":null,"pre_tokenizer":{"type":"Whitespace"},)"
      R"("post_processor":null,"decoder":null,"model":{"type":"WordLevel","vocab":{"a":0,"b":1,"?":2},"unk_token":"?"}})");
  const auto tokenizer = Tokenizer::Load(dir_.string()).value();
  EXPECT_EQ(tokenizer->backend(), "tokenizers");
  EXPECT_EQ(tokenizer->fallback_reason(), "the model is not BPE");
  EXPECT_EQ(tokenizer->Encode("b a zz", false).value(), (std::vector<kv::TokenId>{1, 0, 2}));
  EXPECT_TRUE(tokenizer->CutPoints("a b a b", 1).value().empty());
}

TEST_F(TinyTokenizer, TakesThePaddedVocabularyOfTheModelsConfiguration) {
  WriteTinyTokenizer(dir_);
  std::ofstream(dir_ / "config.json") << R"({"vocab_size":512})";
  EXPECT_EQ(Tokenizer::Load(dir_.string()).value()->vocab_size(), 512u);
}

TEST_F(TinyTokenizer, TheToolTemplateIsTakenWhenToolsAreGiven) {
  WriteTinyTokenizer(dir_, "");
  std::ofstream(dir_ / "tokenizer_config.json")
      << R"({"chat_template":[{"name":"default","template":"plain"},{"name":"tool_use","template":"tools"}]})";
  const auto tokenizer = Tokenizer::Load(dir_.string()).value();
  EXPECT_EQ(tokenizer->RenderChat(R"({"tools":null})").value(), "plain");
  EXPECT_EQ(tokenizer->RenderChat(R"({"tools":[{}]})").value(), "tools");
}

TEST_F(TinyTokenizer, MessagesAreListsOfPartsForTemplatesThatLoopOverThem) {
  const char* body = R"({"messages":[{"role":"user","content":"a"}]})";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"{% for m in messages %}{{ m.content }}{% endfor %}", "a"},
      {"{% for m in messages %}{% for c in m['content'] %}<{{ c.text }}>{% endfor %}{% endfor %}",
       "<a>"},
      {"{% set l = messages[0:] %}{% for m in l %}{% for c in m.content %}<{{ c.text }}>{% endfor "
       "%}"
       "{% endfor %}",
       "<a>"},
      {"{% macro f(content) %}{% for c in content %}<{{ c.text }}>{% endfor %}{% endmacro %}"
       "{% for m in messages %}{{ f(m.content) }}{% endfor %}",
       "<a>"},
      {"{% for m in messages %}{% for t in m.tool_calls or [] %}{% endfor %}{{ m.content }}{% "
       "endfor %}",
       "a"},
  };
  for (const auto& [source, text] : cases) {
    EXPECT_EQ(WithTemplate(source)->RenderChatBody(body).value().text, text) << source;
  }
}

TEST_F(TinyTokenizer, NamesTheFileThatCannotBeLoaded) {
  fs::create_directories(dir_);
  auto loaded = Tokenizer::Load(dir_.string());
  ASSERT_FALSE(loaded.has_value());
  EXPECT_NE(loaded.error().message.find("tokenizer.json"), std::string::npos);
  std::ofstream(dir_ / "tokenizer.json") << "{}";
  loaded = Tokenizer::Load(dir_.string());
  ASSERT_FALSE(loaded.has_value());
  EXPECT_NE(loaded.error().message.find("tokenizer.json"), std::string::npos);
}

TEST_F(TinyTokenizer, WithoutATemplateChatIsUnsupported) {
  const auto tokenizer = WithTemplate("");
  EXPECT_FALSE(tokenizer->has_chat_template());
  EXPECT_EQ(tokenizer->RenderChat(R"({"messages":[]})").error().code, Code::kUnsupported);
}

TEST_F(TinyTokenizer, ARefusalOfTheTemplateIsInvalidAndAFeatureWeLackUnsupported) {
  auto text = Render("{{ raise_exception('no ' ~ messages|length) }}", R"({"messages":[1]})");
  EXPECT_EQ(text.error().code, Code::kInvalidArgument);
  EXPECT_EQ(text.error().message, "no 1");
  EXPECT_EQ(Render("{{ 'a'.casefold() }}", "{}").error().code, Code::kUnsupported);
  EXPECT_EQ(Render("{{ 'a'|no_such_filter }}", "{}").error().code, Code::kUnsupported);
  EXPECT_EQ(Render("{% for x in %}", "{}").error().code, Code::kUnsupported);
  EXPECT_EQ(Render("x", "[]").error().code, Code::kInvalidArgument);
}

TEST_F(TinyTokenizer, DatesComeFromTheClockItIsGiven) {
  EXPECT_EQ(Render("{{ strftime_now('%Y-%m-%d') }}", "{}", 1795348800).value(), "2026-11-22");
}

TEST_F(TinyTokenizer, PrintsValuesAsPythonDoes) {
  const std::string context =
      R"({"v":[1,1.0,1e2,1e16,1e-7,0.1,-0,12345678901234567890123,true,null,"it's",{"a":"\n\u00e9"}]})";
  EXPECT_EQ(Render("{{ v }}", context).value(),
            "[1, 1.0, 100.0, 1e+16, 1e-07, 0.1, 0, 12345678901234567890123, True, None, \"it's\", "
            "{'a': '\\né'}]");
  EXPECT_EQ(Render("{{ v|tojson }}", context).value(),
            "[1, 1.0, 100.0, 1e+16, 1e-07, 0.1, 0, 12345678901234567890123, true, null, \"it's\", "
            "{\"a\": \"\\né\"}]");
  EXPECT_EQ(Render("{{ v|tojson(indent=1) }}", R"({"v":{"b":[],"a":[1]}})").value(),
            "{\n \"b\": [],\n \"a\": [\n  1\n ]\n}");
  EXPECT_EQ(Render("{{ v|tojson(ensure_ascii=true, sort_keys=true, separators=(',',':')) }}",
                   R"({"v":{"b":"é","a":1}})")
                .value(),
            "{\"a\":1,\"b\":\"\\u00e9\"}");
}

TEST_F(TinyTokenizer, HasTheStringMethodsTemplatesUse) {
  EXPECT_EQ(Render("{{ ('a,b,c'.rsplit(',', 1))[0] }}|{{ 'k=v=w'.partition('=')[2] }}|"
                   "{{ 'k=v=w'.rpartition('=')[0] }}|{{ 'prefix'.removeprefix('pre') }}|"
                   "{{ 'x.py'.removesuffix('.py') }}|{{ 'abc'.index('c') }}|{{ ' a  b '.split() }}|"
                   "{{ 'a\\nb'.splitlines() }}|{{ '\\x1c a'.strip() }}|{{ 'Abc'.startswith('A') }}",
                   "{}")
                .value(),
            "a,b|v=w|k=v|fix|x|2|['a', 'b']|['a', 'b']|a|True");
}

TEST_F(TinyTokenizer, RunsGenerationBlocksLoopControlsAndNamespaces) {
  EXPECT_EQ(
      Render("{% set ns = namespace(n=0) %}{% for i in v %}{% if i == 3 %}{% break %}{% endif %}"
             "{%- generation -%} {{ i }} {%- endgeneration -%}{% set ns.n = ns.n + i %}"
             "{% endfor %}={{ ns.n }}",
             R"({"v":[1,2,3,4]})")
          .value(),
      "12=3");
}

TEST_F(TinyTokenizer, NoCutsWhereATokenTakesInWhiteSpaceAroundIt) {
  WriteTinyTokenizer(dir_, "",
                     TinyTokenizerJson(R"("lstrip":false,"rstrip":true,"single_word":false)"));
  const auto tokenizer = Tokenizer::Load(dir_.string()).value();
  EXPECT_TRUE(tokenizer->CutPoints("aaaa<end> bbbb<end>", 1).value().empty());
}

TEST_F(TinyTokenizer, NoCutsAtATokenThatAnotherMayRunInto) {
  const auto cuts = [&](const std::string& other) {
    std::string json = TinyTokenizerJson();
    const std::string unused = R"("content":"<s>")";
    json.replace(json.find(unused), unused.size(), R"("content":")" + other + '"');
    WriteTinyTokenizer(dir_, "", json);
    return Tokenizer::Load(dir_.string()).value()->CutPoints("aa<end>b<turn>c", 1).value();
  };
  EXPECT_EQ(cuts("<end"), (std::vector<uint64_t>{7, 14}));
  EXPECT_EQ(cuts("<end>>"), (std::vector<uint64_t>{14}));
  EXPECT_EQ(cuts("~<end>"), (std::vector<uint64_t>{14}));
  EXPECT_EQ(cuts("~<t"), (std::vector<uint64_t>{7}));
}

TEST_F(TinyTokenizer, CutsEndWithASpecialTokenAndHaveTheirLength) {
  const auto tokenizer = WithTemplate(kTinyTemplate);
  EXPECT_EQ(tokenizer->CutPoints("ab<end>c<end>de<end>f", 1).value(),
            (std::vector<uint64_t>{7, 13, 20}));
  EXPECT_EQ(tokenizer->CutPoints("ab<end>c<end>de<end>f", 10).value(), (std::vector<uint64_t>{13}));
}

TEST_F(TinyTokenizer, ReadsOffATemplateWhatItDoesWithContents) {
  const auto loop = [](const std::string& body) {
    return "{% for m in messages %}" + body + "{% endfor %}";
  };
  using Marks = std::vector<std::string>;
  const std::vector<std::pair<std::string, Marks>> opaque = {
      {loop("{{ m.role }}{{ m['content'] }}"), {}},
      {loop("{{ m.get('content', '') | trim | string }}"), {}},
      {loop("{% set c = m.content %}{% if c is string and c %}{{ c + '!' ~ c }}{% endif %}"), {}},
      {loop("{% if '</t>' in m.content %}{{ m.content.split('</t>')[-1].lstrip('\n') }}"
            "{% else %}{{ m.content }}{% endif %}"),
       {"</t>"}},
      {loop("{% if m.content.startswith(('a', 'b')) or m.content == 'c\nd' %}x{% endif %}"),
       {"a", "b", "c", "d"}},
      {loop("{{ m.content.replace('<x>', '') | replace('<y>', '') }}"), {"<x>", "<y>"}},
      {loop("{{ m.content.strip('*\n') }}"), {"*"}},
      {loop("{% if m.content | length > 0 %}{{ m.content }}{% endif %}"), {}},
      {loop("{% if m.content is mapping %}{{ m.content | tojson }}{% endif %}"), {}},
      {loop("{{ m.content }}") + "{{ strftime_now('%-d %b %Y') }}", {}},
      {loop("{% generation %}{{ m.content }}{% endgeneration %}"), {}},
      {"{% macro f(c, n=1) %}[{{ c | trim }}]{% endmacro %}" + loop("{{ f(m.content) | trim }}"),
       {}},
      {"{% set ns = namespace(s='') %}" + loop("{% set ns.s = ns.s + m.content %}") + "{{ ns.s }}",
       {}},
      {"{% set t = messages[1:] | list %}{% for m in t | selectattr('role', 'equalto', 'user') %}"
       "{{ m.content }}{% endfor %}{{ messages | map(attribute='content') | join(', ') }}",
       {}},
      {loop("{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}"
            "{{ c['text'] }}{% endfor %}{% endif %}"),
       {}},
      {loop("{% set x %}{{ m.content }}{% endset %}{{ x }}{% filter trim %} {{ x }} {% endfilter "
            "%}"),
       {}},
  };
  for (const auto& [source, marks] : opaque) {
    const auto tokenizer = WithTemplate(source);
    const auto& rules = tokenizer->content_rules();
    EXPECT_TRUE(rules.opaque) << source << "\n" << rules.reason;
    EXPECT_EQ(rules.marks, marks) << source;
  }
  const std::vector<std::pair<std::string, std::string>> others = {
      {"", "no chat template"},
      {"{% for %}", "does not compile"},
      {loop("{{ m.content | upper }}"), "\"upper\""},
      {loop("{{ m.content | tojson }}"), "\"tojson\""},
      {loop("{{ m }}"), "no text is printed"},
      {"{{ messages | tojson }}", "\"tojson\""},
      {loop("{{ m.content | length }}"), "no text is printed"},
      {loop("{% if m.content | length > 100 %}long{% endif %}"), "lengths"},
      {loop("{{ m.content[:5] }}"), "sliced"},
      {loop("{{ m.content[0] }}"), "character"},
      {loop("{% if m.role in m.content %}x{% endif %}"), "computed"},
      {loop("{% if m.content in ['a', m.role] %}x{% endif %}"), "looked for"},
      {loop("{% if m.content == messages[0].content %}x{% endif %}"), "compared"},
      {loop("{% if 'ab' in m.content + 'b' %}x{% endif %}"), "searched"},
      {loop("{% if '\n' in m.content %}x{% endif %}"), "line ends"},
      {loop("{{ m.content.split() | length }}"), "split"},
      {loop("{{ m.content.splitlines()[0] }}"), "splitlines"},
      {loop("{{ '%s' % m.content }}"), "arithmetic"},
      // Tool messages have strings where others have lists of parts.
      {loop("{% for c in m.content %}{{ c.text }}{% endfor %}"), "a loop runs over a content"},
      {loop("{% for c in m.content | list %}{{ c }}{% endfor %}"), "\"list\""},
      {"{% set a = namespace() %}{% set b = a %}" + loop("{% set b.x = m.content %}") +
           "{{ a.x | upper }}",
       "\"upper\""},
      {"{% macro f(c) %}{{ c | upper }}{% endmacro %}" + loop("{{ f(m.content) }}"), "\"upper\""},
      {loop("{{ loop.previtem.content | upper }}"), "\"upper\""},
      {loop("{% if loop.changed(m.content) %}x{% endif %}"), "\"changed\""},
      {loop("{% if m.content is string %}{% set m = messages[0] %}{{ m }}{% endif %}"), "printed"},
      {loop("{{ m.content }}") + "{{ strftime_now('%H:%M') }}", "time"},
      {"{% set f = strftime_now %}{{ f('%Y') }}", "function"},
      {"{{ debug() }}", "debug"},
      {"{% autoescape true %}" + loop("{{ m.content }}") + "{% endautoescape %}", "autoescape"},
  };
  for (const auto& [source, reason] : others) {
    const auto tokenizer = WithTemplate(source);
    const auto& rules = tokenizer->content_rules();
    EXPECT_FALSE(rules.opaque) << source;
    EXPECT_NE(rules.reason.find(reason), std::string::npos) << source << "\n" << rules.reason;
  }
}

TEST_F(TinyTokenizer, BothTemplatesOfAModelHaveToBeOpaque) {
  const auto rules = [&](const std::string& plain, const std::string& tools) {
    WriteTinyTokenizer(dir_, "");
    std::ofstream(dir_ / "tokenizer_config.json") << fmt::format(
        R"({{"chat_template":[{{"name":"default","template":"{}"}},{{"name":"tool_use","template":"{}"}}]}})",
        plain, tools);
    return Tokenizer::Load(dir_.string()).value()->content_rules();
  };
  const auto both =
      rules("{{ messages[0].content.split('a')[0] }}", "{{ 'b' in messages[0].content }}");
  EXPECT_TRUE(both.opaque) << both.reason;
  EXPECT_EQ(both.marks, (std::vector<std::string>{"a", "b"}));
  EXPECT_FALSE(rules("x", "{{ messages[0].content | upper }}").opaque);
  EXPECT_FALSE(rules("{{ messages | tojson }}", "x").opaque);
}

// Everywhere between an ASCII letter and a single space before an ASCII letter.
std::vector<size_t> WordCuts(std::string_view text) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  std::vector<size_t> cuts;
  for (size_t i = 1; i + 1 < text.size(); ++i) {
    if (text[i] == ' ' && letter(text[i - 1]) && letter(text[i + 1])) cuts.push_back(i);
  }
  return cuts;
}

class RealTokenizer : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Content, RealTokenizer, testing::ValuesIn(kTokenizerNames),
                         [](const auto& info) { return info.param; });

TEST_P(RealTokenizer, PassesContentsThroughItsTemplate) {
  const auto& rules = TestTokenizer(GetParam())->content_rules();
  if (GetParam() == "gptoss") {
    EXPECT_FALSE(rules.opaque);
    EXPECT_EQ(rules.reason, "the model has no chat template");
    return;
  }
  EXPECT_TRUE(rules.opaque) << rules.reason;
  const std::vector<std::string> thinking = {"</think>", "</tool_response>", "<think>",
                                             "<tool_response>"};
  EXPECT_EQ(rules.marks, GetParam() == "qwen3" ? thinking : std::vector<std::string>{});
}

// As a caller would: stand-ins for the texts that meet the conditions.
class StandIns {
 public:
  explicit StandIns(const Tokenizer::ContentRules& rules) : rules_(rules) {}

  // Takes `text` and leaves a stand-in, if it may.
  void Take(codec::Json& text) {
    if (!text.is_string()) return;
    const std::string_view view = text.as_string();
    const auto edge = [](char c) { return static_cast<unsigned char>(c) > 0x20 && c != 0x7F; };
    if (view.empty() || !edge(view.front()) || !edge(view.back()) ||
        static_cast<signed char>(view.front()) < 0 || static_cast<signed char>(view.back()) < 0) {
      return;
    }
    for (const auto& mark : rules_.marks) {
      if (view.find(mark) != std::string_view::npos) return;
    }
    texts_.emplace_back(view);
    text = fmt::format("Sh4pe{}z", texts_.size() - 1);
  }
  std::string Fill(std::string_view skeleton) const {
    std::string out;
    for (size_t at = skeleton.find("Sh4pe"); at != std::string_view::npos;
         at = skeleton.find("Sh4pe")) {
      const size_t end = skeleton.find('z', at);
      out += skeleton.substr(0, at);
      out += texts_.at(std::stoul(std::string(skeleton.substr(at + 5, end - at - 5))));
      skeleton.remove_prefix(end + 1);
    }
    return out.append(skeleton);
  }
  size_t size() const { return texts_.size(); }

 private:
  const Tokenizer::ContentRules& rules_;
  std::vector<std::string> texts_;
};

TEST_P(RealTokenizer, ARenderingWithStandInsIsFilledToTheRealOne) {
  if (GetParam() == "gptoss") GTEST_SKIP() << "gpt-oss has no chat template";
  const auto tokenizer = TestTokenizer(GetParam());
  const std::vector<std::string> odd = {
      "a\nb", "{{ x }}", "it's \"q\" <b>&amp;", "<think",   "think>", "\u00e9\u0301 x",
      "[1]",  "None",    "<|im_end|>",          "a\tb\r\nc"};
  size_t filled = 0;
  size_t taken = 0;
  const auto check = [&](const codec::Json& body) {
    codec::Json shape = body;
    StandIns stand_ins(tokenizer->content_rules());
    for (auto& message : shape.at("messages").as_array()) {
      if (!message.is_object() || !message.as_object().contains("content")) continue;
      auto& content = message.at("content");
      stand_ins.Take(content);
      if (!content.is_array()) continue;
      for (auto& part : content.as_array()) {
        if (part.is_object() && part.as_object().contains("text")) stand_ins.Take(part.at("text"));
      }
    }
    const auto want = tokenizer->RenderChatBody(codec::DumpJson(body), 0);
    const auto skeleton = tokenizer->RenderChatBody(codec::DumpJson(shape), 0);
    ASSERT_EQ(want.has_value(), skeleton.has_value()) << codec::DumpJson(body);
    if (!want) return;
    EXPECT_EQ(stand_ins.Fill(skeleton->text), want->text) << codec::DumpJson(body);
    ++filled;
    taken += stand_ins.size();
  };
  for (const auto& row : TestRows("golden/chat_render_vllm.jsonl")) {
    auto body = codec::ParseJson(Text(row, "request_body"));
    if (!body || !body->is_object() || codec::Find(*body, "messages") == nullptr ||
        !body->at("messages").is_array() ||
        codec::FindBool(*body, "continue_final_message").value_or(false)) {
      continue;
    }
    check(*body);
    size_t next = 0;
    for (auto& message : body->at("messages").as_array()) {
      if (!message.is_object() || !message.as_object().contains("content")) continue;
      if (message.at("content").is_string()) {
        message.at("content") = odd[(filled + next++) % odd.size()];
      }
    }
    check(*body);
  }
  EXPECT_GT(filled, 300u);
  EXPECT_GT(taken, 500u);
}

TEST_P(RealTokenizer, PiecesEndWithTheTokensThatEndTurns) {
  const std::map<std::string, std::string> ends = {
      {"qwen3", "<|im_end|>"},     {"llama3", "<|eot_id|>"},
      {"llama3_1", "<|eot_id|>"},  {"deepseek_v3", "<｜end▁of▁sentence｜>"},
      {"gemma3", "<end_of_turn>"}, {"gptoss", "<|end|>"}};
  const std::string text = "ab" + ends.at(GetParam());
  EXPECT_EQ(TestTokenizer(GetParam())->CutPoints(text + "c", 1).value(),
            (std::vector<uint64_t>{text.size()}));
}

TEST_P(RealTokenizer, TextCutBetweenWordsHasTheSameIds) {
  const auto tokenizer = TestTokenizer(GetParam());
  ASSERT_EQ(tokenizer->cuts_between_words(), GetParam() != "gemma3");
  if (!tokenizer->cuts_between_words()) return;
  const std::vector<std::string> atoms = {
      " ",          " ",        " ",      " ",       "a",        "Z",          "word",
      "The",        "I'm",      "'s",     "'LL",     "\n",       "\r\n",       "\t",
      "  ",         "1",        "1234",   ".",       "!?",       "\"",         "_",
      "-",          "/",        "#",      "(",       "é",        "ñ",          "ß",
      "日本",       "한",       "ا",      "ไทย",     "🙂",       "\u0301",     "\u00a0",
      "\u2003",     "\u200d",   "\u1f8d", "e\u0301", "K\u0327",  "<|im_end|>", "<|eot_id|>",
      "<｜User｜>", "</think>", "²",      "x y",     "Word one", "a Bc",       "I'll q",
      "end s"};
  std::mt19937 random(7);
  std::uniform_int_distribution<size_t> pick(0, atoms.size() - 1);
  size_t cuts = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (size_t n = 4 + random() % 60; n > 0; --n) text += atoms[pick(random)];
    const auto whole = tokenizer->Encode(text, false).value();
    for (const size_t cut : WordCuts(text)) {
      ++cuts;
      auto ids = tokenizer->Encode(std::string_view(text).substr(0, cut), false).value();
      const auto rest = tokenizer->Encode(std::string_view(text).substr(cut), false).value();
      ids.insert(ids.end(), rest.begin(), rest.end());
      ASSERT_EQ(ids, whole) << cut << " in " << text;
    }
  }
  EXPECT_GT(cuts, 3000u);
}

TEST_F(TinyTokenizer, CutsBetweenWordsOnlyWhereThePatternIsKnownToEndWords) {
  const auto cuts = [&](const std::string& pre_tokenizer, const std::string& normalizer = "null",
                        const std::string& added =
                            R"("lstrip":false,"rstrip":false,"single_word":false)") {
    std::string json = TinyTokenizerJson(added);
    const auto replace = [&](const std::string& from, const std::string& to) {
      const size_t at = json.find(from);
      ASSERT_NE(at, std::string::npos);
      json.replace(at, from.size(), to);
    };
    replace(
        R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false})",
        pre_tokenizer);
    replace(R"("normalizer":null)", "\"normalizer\":" + normalizer);
    WriteTinyTokenizer(dir_, "", json);
    return Tokenizer::Load(dir_.string()).value()->cuts_between_words();
  };
  const auto bytes = [](bool space, bool regex) {
    return fmt::format(
        R"({{"type":"ByteLevel","add_prefix_space":{},"trim_offsets":true,"use_regex":{}}})", space,
        regex);
  };
  const auto splits = [&](const std::string& pattern, const std::string& behavior = "Isolated") {
    return fmt::format(
        R"({{"type":"Sequence","pretokenizers":[{{"type":"Split","pattern":{{"Regex":"{}"}},"behavior":"{}","invert":false}},{}]}})",
        pattern, behavior, bytes(false, false));
  };
  EXPECT_TRUE(cuts(bytes(false, true)));
  EXPECT_FALSE(cuts(bytes(false, false)));
  EXPECT_FALSE(cuts(bytes(true, true)));
  const std::string words = R"([^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|\\s+(?!\\S)|\\s+)";
  EXPECT_TRUE(cuts(splits(words)));
  EXPECT_TRUE(cuts(splits(words), R"({"type":"NFC"})"));
  EXPECT_FALSE(cuts(splits(words), R"({"type":"NFKC"})"));
  EXPECT_FALSE(cuts(splits(words), "null", R"("lstrip":true,"rstrip":false,"single_word":false)"));
  EXPECT_FALSE(cuts(splits(words, "Removed")));
  EXPECT_FALSE(cuts(splits(R"(\\p{L}+ \\p{L}+)")));
  EXPECT_FALSE(cuts(splits(words + R"(|(?<=a) )")));
  EXPECT_FALSE(cuts(splits(R"(\\p{N}{1,3}|\\s+)")));
}

}  // namespace
}  // namespace warmpath::prompt
