//! The engine's own normalisation of a chat body: what the template sees is not what the client sent. Follows vLLM 0.32; where the
//! outcome is not known, the answer is `unsupported`, so that the request is routed without tokens instead of with wrong ones.

use crate::json::{self, Json, Object};
use crate::template::Templates;
use crate::Failure;

pub struct Rendered {
    pub text: String,
    pub add_special_tokens: bool,
    /// Keep only this many tokens, the last ones; 0 keeps all.
    pub truncate_to: u64,
}

fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    Json::Obj(members.into_iter().map(|(k, v)| (k.to_string(), v)).collect())
}

/// A boolean field of the body: absent gives the default, null is refused by the engine, other types it may coerce.
fn flag(body: &Object, key: &str, default: bool) -> Result<bool, Failure> {
    match body.get(key) {
        None => Ok(default),
        Some(Json::Bool(b)) => Ok(*b),
        Some(Json::Null) => Err(Failure::invalid(format!("{key} must be a boolean"))),
        Some(_) => Err(Failure::unsupported(format!("{key} is not a boolean"))),
    }
}

/// The texts of a message's parts, in order, taken out of them.
fn part_texts(role: &str, parts: &mut [Json]) -> Result<Vec<String>, Failure> {
    let mut texts = Vec::with_capacity(parts.len());
    for part in parts {
        if !matches!(part, Json::Obj(_)) {
            return Err(Failure::invalid("a content part must be an object".into()));
        }
        let key = match part.get("type").and_then(Json::as_str) {
            Some("text") => "text",
            Some("refusal") if role == "assistant" => "refusal",
            Some("input_text" | "output_text") => {
                return Err(Failure::invalid("content part type must be 'text'".into()))
            }
            Some(kind) => {
                return Err(Failure::unsupported(format!("content part of type {kind:?}")))
            }
            None => return Err(Failure::unsupported("content part without a type".into())),
        };
        match part {
            Json::Obj(fields) if matches!(fields.get(key), Some(Json::Str(_))) => {
                texts.extend(fields.get_mut(key).and_then(Json::take_str));
            }
            _ => return Err(Failure::invalid(format!("content part: {key} must be a string"))),
        }
    }
    Ok(texts)
}

fn content(role: &str, message: &mut Object, as_parts: bool) -> Result<Json, Failure> {
    let mut texts = match message.get_mut("content") {
        None => Vec::new(),
        Some(Json::Null) if matches!(role, "assistant" | "function") => Vec::new(),
        Some(Json::Str(text)) => vec![std::mem::take(text)],
        Some(Json::Arr(parts)) => part_texts(role, parts)?,
        Some(_) => {
            return Err(Failure::invalid(format!(
                "content of a {role} message must be a string or a list of parts"
            )))
        }
    };
    if as_parts && role != "tool" {
        return Ok(Json::Arr(
            texts
                .into_iter()
                .map(|t| object([("type", Json::str("text")), ("text", Json::Str(t))]))
                .collect(),
        ));
    }
    texts.retain(|t| !t.is_empty());
    Ok(Json::Str(match &mut texts[..] {
        [one] => std::mem::take(one),
        many => many.join("\n"),
    }))
}

/// Arguments as the template sees them: always an object; what is no object, or broken, becomes {}.
fn arguments(function: &Json, budget: &mut usize) -> Result<Json, Failure> {
    let text = match function.get("arguments") {
        None => return Ok(Json::Obj(Object::default())),
        Some(Json::Str(text)) => text,
        Some(_) => {
            return Err(Failure::unsupported("tool call arguments that are not a string".into()))
        }
    };
    match json::parse_within(text.as_bytes(), budget) {
        Ok(value @ Json::Obj(_)) => Ok(value),
        Ok(_) => Ok(Json::Obj(Object::default())),
        Err(failure) => {
            // Python reads these and we do not.
            let lax = ["NaN", "Infinity", "\\ud", "\\uD"].iter().any(|t| text.contains(t))
                || failure.message.contains("nested");
            if lax || failure.is_unsupported() {
                return Err(Failure::unsupported(format!(
                    "tool call arguments: {}",
                    failure.message
                )));
            }
            Ok(Json::Obj(Object::default()))
        }
    }
}

fn tool_calls(calls: &[Json], budget: &mut usize) -> Result<Vec<Json>, Failure> {
    calls
        .iter()
        .map(|call| {
            if call.get("type").is_some_and(|t| t.as_str() != Some("function")) {
                return Err(Failure::unsupported("a tool call that is not a function".into()));
            }
            let function = call
                .get("function")
                .ok_or_else(|| Failure::invalid("a tool call needs a function".into()))?;
            let name = function
                .get("name")
                .and_then(Json::as_str)
                .ok_or_else(|| Failure::invalid("a tool call needs a function name".into()))?;
            let function =
                object([("arguments", arguments(function, budget)?), ("name", Json::str(name))]);
            let mut out = Object::default();
            if let Some(id) = call.get("id") {
                out.insert("id".into(), id.clone());
            }
            out.insert("function".into(), function);
            out.insert("type".into(), Json::str("function"));
            Ok(Json::Obj(out))
        })
        .collect()
}

/// Takes the content out of `source`.
fn message(source: &mut Json, as_parts: bool, budget: &mut usize) -> Result<Object, Failure> {
    let Json::Obj(fields) = source else {
        return Err(Failure::invalid("a message must be an object".into()));
    };
    let role = fields
        .get("role")
        .and_then(Json::as_str)
        .ok_or_else(|| Failure::invalid("a message needs a role".into()))?
        .to_string();
    let role = role.as_str();
    let content = content(role, fields, as_parts)?;
    let source = &*source;
    let mut out = Object::default();
    out.insert("role".into(), Json::str(role));
    out.insert("content".into(), content);
    if role == "assistant" {
        match source.get("tool_calls") {
            None => {}
            Some(Json::Arr(calls)) if calls.is_empty() => {}
            Some(Json::Arr(calls)) => {
                out.insert("tool_calls".into(), Json::Arr(tool_calls(calls, budget)?));
            }
            Some(_) => return Err(Failure::invalid("tool_calls must be a list".into())),
        }
        if let Some(reasoning) = source.get("reasoning").or_else(|| source.get("reasoning_content"))
        {
            out.insert("reasoning".into(), reasoning.clone());
            out.insert("reasoning_content".into(), reasoning.clone());
        }
    }
    if role == "tool" {
        if let Some(id) = source.get("tool_call_id") {
            out.insert("tool_call_id".into(), id.clone());
        }
    }
    if role == "developer" && source.get("tools").is_some() {
        return Err(Failure::unsupported("tools inside a developer message".into()));
    }
    if let Some(name @ Json::Str(_)) = source.get("name") {
        out.insert("name".into(), name.clone());
    }
    Ok(out)
}

fn has_role(message: &Json, role: &str) -> bool {
    message.get("role").and_then(Json::as_str) == Some(role)
}

/// A template that knows no developer role gets those messages as system, and then all system text in one message in front.
fn merge_developer(messages: Vec<Json>) -> Result<Vec<Json>, Failure> {
    if !messages.iter().any(|m| has_role(m, "developer")) {
        return Ok(messages);
    }
    let (system, rest): (Vec<Json>, Vec<Json>) =
        messages.into_iter().partition(|m| has_role(m, "system") || has_role(m, "developer"));
    let merged = match &system[..] {
        [one] => one.get("content").cloned().unwrap_or_else(|| Json::str("")),
        many => {
            let texts: Option<Vec<&str>> =
                many.iter().map(|m| m.get("content").and_then(Json::as_str)).collect();
            Json::Str(
                texts
                    .ok_or_else(|| {
                        Failure::unsupported(
                            "several system and developer messages made of parts".into(),
                        )
                    })?
                    .join("\n\n"),
            )
        }
    };
    let mut out = vec![object([("role", Json::str("system")), ("content", merged)])];
    out.extend(rest);
    Ok(out)
}

/// Tools with the engine's fields in the engine's order; inside `parameters` the client's order stays.
fn tools(list: &[Json]) -> Result<Json, Failure> {
    let mut out = Vec::with_capacity(list.len());
    for tool in list {
        match tool.get("type") {
            None => {}
            Some(Json::Str(kind)) if kind == "function" => {}
            Some(_) => return Err(Failure::invalid("a tool must be of type function".into())),
        }
        let source = tool
            .get("function")
            .ok_or_else(|| Failure::invalid("a tool needs a function".into()))?;
        let name = source
            .get("name")
            .and_then(Json::as_str)
            .ok_or_else(|| Failure::invalid("a tool needs a function name".into()))?;
        let description = source.get("description").cloned().unwrap_or(Json::Null);
        let parameters = source.get("parameters").cloned().unwrap_or(Json::Null);
        if !matches!(description, Json::Null | Json::Str(_))
            || !matches!(parameters, Json::Null | Json::Obj(_))
        {
            return Err(Failure::invalid(
                "a tool's description is a string, its parameters an object".into(),
            ));
        }
        let mut function = Object::default();
        function.insert("name".into(), Json::str(name));
        function.insert("description".into(), description);
        function.insert("parameters".into(), parameters);
        if let Json::Obj(fields) = source {
            match fields.get("strict") {
                None => {}
                Some(strict @ Json::Bool(_)) => {
                    function.insert("strict".into(), strict.clone());
                }
                Some(_) => {
                    return Err(Failure::unsupported(
                        "a tool's strict that is not a boolean".into(),
                    ))
                }
            }
            if fields.contains_key("defer_loading") {
                return Err(Failure::unsupported("a tool's defer_loading".into()));
            }
        }
        out.push(object([("type", Json::str("function")), ("function", Json::Obj(function))]));
    }
    Ok(Json::Arr(out))
}

/// Appended to the final message's text before rendering, and cut off with all that follows after it (as transformers does).
/// The trailing space shows whether the template trims.
const CONTINUE_TAG: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

fn tag_final_message(messages: &mut [Json]) -> Result<(), Failure> {
    let refused =
        || Failure::invalid("continue_final_message needs a final message with text".into());
    let Some(Json::Obj(last)) = messages.last_mut() else {
        return Err(refused());
    };
    match last.get_mut("content") {
        Some(Json::Str(text)) => text.push_str(CONTINUE_TAG),
        Some(Json::Arr(parts)) => match parts.last_mut() {
            Some(Json::Obj(part)) => match part.get_mut("text") {
                Some(Json::Str(text)) => text.push_str(CONTINUE_TAG),
                _ => return Err(refused()),
            },
            _ => return Err(refused()),
        },
        _ => return Err(refused()),
    }
    Ok(())
}

fn cut_at_tag(text: String) -> Result<String, Failure> {
    let trimmed = CONTINUE_TAG.trim_end();
    let at = text
        .rfind(trimmed)
        .ok_or_else(|| Failure::invalid("the chat template drops the final message".into()))?;
    let end = if text[at..].starts_with(CONTINUE_TAG) {
        &text[..at]
    } else {
        text[..at].trim_end_matches(crate::python::is_space)
    };
    Ok(end.to_string())
}

fn truncation(source: &Json) -> Result<u64, Failure> {
    let count = match source.get("truncate_prompt_tokens") {
        None => return Ok(0),
        Some(Json::Int(count)) if *count > 0 => *count as u64,
        Some(_) => return Err(Failure::unsupported("truncate_prompt_tokens".into())),
    };
    match source.get("truncation_side") {
        None => Ok(count),
        Some(side) if side.as_str() == Some("left") => Ok(count),
        Some(_) => Err(Failure::unsupported("truncation_side".into())),
    }
}

/// Variables of the template that come from chat_template_kwargs and from fields of the body; fields win.
fn variables(source: &Json, body: &Object) -> Result<Object, Failure> {
    let mut context = match source.get("chat_template_kwargs") {
        None => Object::default(),
        Some(Json::Obj(kwargs)) => kwargs.clone(),
        Some(_) => return Err(Failure::invalid("chat_template_kwargs must be an object".into())),
    };
    for reserved in ["messages", "conversation", "tools", "chat_template"] {
        if context.contains_key(reserved) {
            return Err(Failure::unsupported(format!("{reserved:?} in chat_template_kwargs")));
        }
    }
    if let Some(effort) = source.get("reasoning_effort") {
        if effort.as_str() != Some("auto") {
            if !context.contains_key("enable_thinking") {
                context
                    .insert("enable_thinking".into(), Json::Bool(effort.as_str() != Some("none")));
            }
            context.insert("reasoning_effort".into(), effort.clone());
        }
    }
    if let Some(documents) = source.get("documents") {
        context.insert("documents".into(), documents.clone());
    }
    context.insert(
        "add_generation_prompt".into(),
        Json::Bool(flag(body, "add_generation_prompt", true)?),
    );
    context.insert(
        "continue_final_message".into(),
        Json::Bool(flag(body, "continue_final_message", false)?),
    );
    Ok(context)
}

pub fn render(templates: &Templates, body: &[u8], now: i64) -> Result<Rendered, Failure> {
    let mut source = json::parse(body)?;
    let list = match &mut source {
        Json::Obj(fields) => fields.get_mut("messages").map(std::mem::take),
        _ => None,
    };
    let Json::Obj(fields) = &source else {
        return Err(Failure::invalid("the body must be a JSON object".into()));
    };
    let Some(Json::Arr(list)) = list else {
        return Err(Failure::invalid("messages must be a list".into()));
    };
    if list.is_empty() {
        return Err(Failure::unsupported("no messages".into()));
    }
    if source.get("chat_template").is_some() {
        return Err(Failure::unsupported("chat_template in the body".into()));
    }
    if source.get("kv_transfer_params").and_then(|p| p.get("prompt_token_ids")).is_some() {
        return Err(Failure::unsupported("prompt_token_ids in kv_transfer_params".into()));
    }
    let tool_list = match source.get("tools") {
        None => Json::Null,
        Some(Json::Arr(tools)) if tools.is_empty() => {
            return Err(Failure::invalid("tools must not be an empty list".into()))
        }
        Some(Json::Arr(list)) => tools(list)?,
        Some(_) => return Err(Failure::invalid("tools must be a list".into())),
    };
    let with_tools = tool_list != Json::Null;
    let mut context = variables(&source, fields)?;
    let continues = context.get("continue_final_message") == Some(&Json::Bool(true));
    if continues && context.get("add_generation_prompt") == Some(&Json::Bool(true)) {
        return Err(Failure::invalid(
            "continue_final_message and add_generation_prompt exclude each other".into(),
        ));
    }
    let as_parts = templates.wants_parts(with_tools);
    let mut messages = Vec::with_capacity(list.len());
    let mut budget = json::MAX_VALUES;
    for mut item in list {
        messages.push(Json::Obj(message(&mut item, as_parts, &mut budget)?));
    }
    if !templates.mentions_developer(with_tools) {
        messages = merge_developer(messages)?;
    }
    if continues {
        tag_final_message(&mut messages)?;
    }
    context.insert("messages".into(), Json::Arr(messages));
    if with_tools {
        context.insert("tools".into(), tool_list);
    } else {
        context.insert("tools".into(), Json::Null);
    }
    let add_special_tokens = flag(fields, "add_special_tokens", false)?;
    let truncate_to = truncation(&source)?;
    let text = templates.render(&Json::Obj(context), now)?;
    let text = if continues { cut_at_tag(text)? } else { text };
    Ok(Rendered { text, add_special_tokens, truncate_to })
}
