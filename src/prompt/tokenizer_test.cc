#include "prompt/tokenizer.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "prompt/shared_tokenizer.h"
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
