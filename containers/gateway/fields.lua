-- What a request may hold: the fields that our clients send, and nothing else. Every byte of a message has to be
-- accounted for; what is not known here is refused, not passed on. A failure of this script refuses, too: envoy.yaml
-- admits only what ADMITTED marks.
--
-- Keys are protobuf's tags (field number * 8 + wire type), all of one byte; the messages are those of Triton's
-- grpc_service.proto.

local MODELS = { retrieval = true, retrieval_chained = true }
local SIZES = { INT64 = 8, INT32 = 4, FP64 = 8, BOOL = 1, BYTES = 0 } -- bytes of a value; 0: each states its own length
local MAX_FIELDS, MAX_TENSORS, MAX_NAME, MAX_VALUES = 1000, 64, 256, 2 ^ 24
local byte, sub = string.byte, string.sub

local function refuse(reason) error({ reason = reason }, 0) end

-- The number that begins at a place, and the place after it: at most 35 bits, in its shortest form.
local function varint(text, at, stop)
    local value, scale = 0, 1
    for place = at, math.min(at + 4, stop) do
        local digit = byte(text, place)
        value = value + digit % 128 * scale
        if digit < 128 then
            if digit == 0 and place > at then refuse("a number is not in its shortest form") end
            return value, place + 1
        end
        scale = scale * 128
    end
    refuse("a number is too large or cut")
end

-- Reads text[at..stop] as a message of `fields`, each of which takes what is in it.
local function message(fields, text, at, stop, found)
    while at <= stop do
        found.fields = found.fields + 1
        if found.fields > MAX_FIELDS then refuse("more than " .. MAX_FIELDS .. " fields") end
        local tag = byte(text, at)
        local take = fields[tag]
        if not take then refuse("a field (tag " .. tag .. ") that our clients do not send") end
        local value
        value, at = varint(text, at + 1, stop)
        if tag % 8 == 2 then
            if at + value - 1 > stop then refuse("a field is longer than what holds it") end
            take(text, at, at + value - 1, found)
            at = at + value
        else
            take(value, found)
        end
    end
end

local function name(text, at, stop)
    local found = sub(text, at, stop)
    if #found > MAX_NAME or not found:match("^[%w_ .:-]*$") then refuse("a name that is none") end
    return found
end

local function model(text, at, stop, found) found.model = name(text, at, stop) end

local INPUT = {
    [0x0A] = name,
    [0x12] = function(text, at, stop, found) found.input.size = SIZES[name(text, at, stop)] end,
    [0x1A] = function(text, at, stop, found)
        while at <= stop do
            local width
            width, at = varint(text, at, stop)
            found.input.values, found.input.dimensions = found.input.values * width, found.input.dimensions + 1
            if width > MAX_VALUES then refuse("a tensor that is larger than any") end
            if found.input.dimensions > 2 then refuse("a tensor of more than two dimensions") end
        end
    end,
}
local OUTPUT = { [0x0A] = name }
local TIMEOUT = { [0x10] = function() end } -- int64_param
local PARAMETER = {
    [0x0A] = function(text, at, stop)
        if name(text, at, stop) ~= "timeout" then refuse("a parameter other than timeout") end
    end,
    [0x12] = function(text, at, stop, found) message(TIMEOUT, text, at, stop, found) end,
}
local INFER = {
    [0x0A] = model,
    [0x1A] = name, -- the request's id
    [0x22] = function(text, at, stop, found) message(PARAMETER, text, at, stop, found) end,
    [0x2A] = function(text, at, stop, found)
        found.input = { values = 1, dimensions = 0 }
        found.inputs[#found.inputs + 1] = found.input
        message(INPUT, text, at, stop, found)
    end,
    [0x32] = function(text, at, stop, found) message(OUTPUT, text, at, stop, found) end,
    [0x3A] = function(text, at, stop, found) found.raw[#found.raw + 1] = { at, stop } end,
}
local CALLS = {
    ["/inference.GRPCInferenceService/ModelInfer"] = INFER,
    ["/inference.GRPCInferenceService/ModelConfig"] = { [0x0A] = model },
}

-- Strings stand one after the other, each behind its length in four bytes; as many as the shape says.
local function check_strings(text, at, stop, count)
    for _ = 1, count do
        if at + 3 > stop then refuse("fewer strings than the shape says") end
        local a, b, c, d = byte(text, at, at + 3)
        at = at + 4 + a + b * 256 + c * 65536 + d * 16777216
    end
    if at ~= stop + 1 then refuse("strings that are not as long as they say") end
end

local function check_tensors(text, found)
    if #found.inputs ~= #found.raw or #found.inputs > MAX_TENSORS then
        refuse(#found.inputs .. " inputs and the content of " .. #found.raw)
    end
    for number, input in ipairs(found.inputs) do
        local at, stop = found.raw[number][1], found.raw[number][2]
        if not input.size then refuse("an input of a type that no model of ours takes") end
        if input.dimensions ~= 2 or input.values > MAX_VALUES then refuse("a shape that no model of ours takes") end
        if input.size == 0 then
            check_strings(text, at, stop, input.values)
        elseif stop - at + 1 ~= input.values * input.size then
            refuse("an input whose content is not as long as its shape says")
        end
    end
end

-- Refuses a body that is anything but one message of the call, not compressed.
local function check(path, text)
    local fields = CALLS[path]
    if not fields then refuse("a call that our clients do not make") end
    if #text < 5 then refuse("no message") end
    local compressed, a, b, c, d = byte(text, 1, 5)
    if compressed ~= 0 then refuse("a compressed message") end
    if ((a * 256 + b) * 256 + c) * 256 + d ~= #text - 5 then refuse("anything but one message") end
    local found = { fields = 0, inputs = {}, raw = {} }
    message(fields, text, 6, #text, found)
    if not MODELS[found.model or ""] then refuse("a model that is not for clients") end
    check_tensors(text, found)
end

function envoy_on_request(handle)
    local body = handle:body(true)
    local passed, wrong = pcall(function()
        check(handle:headers():get(":path"), body:getBytes(0, body:length()))
    end)
    if passed then
        handle:streamInfo():dynamicMetadata():set("gateway", "admitted", true)
    else
        local reason = type(wrong) == "table" and wrong.reason or "what the gateway cannot read"
        handle:respond({ [":status"] = "403" }, "the gateway does not admit " .. reason)
    end
end
