/** What the page says, in both languages. */

/** @typedef {"en" | "zh"} Language */

/** @type {Record<Language, Record<string, string>>} */
const WORDS = {
  en: {
    skip: "To the text",
    tagline: "Type a text, choose a voice, hear it while it is made.",
    other: "中文",
    input: "What shall be said?",
    placeholder: "Any text, of any length…",
    sentence: "A sentence",
    story: "A story",
    sentence_text: "Many voices share one model. Each of them sounds the same, alone or in a crowd.",
    story_text:
      "The boy was there when the sun rose, and he watched the small ships come home to the quiet harbour. " +
      "His mother had told him that the last of them would be red.\n\n" +
      "The first was grey, and it carried fish. The second was white, and it carried salt and cloth from the south. " +
      "The third was so old that nobody knew what colour it had been.\n\n" +
      "He waited until noon. The wind went round to the west, the gulls came in, and an old man sat down beside him. " +
      "“She will be late today,” said the man. “The tide is against her.”\n\n" +
      "In the evening, when all the lamps were lit, a red sail stood between the two towers. " +
      "The boy ran down to the water, and the whole town heard him shout.",
    voice: "Voice",
    described: "As described below",
    recorded: "The recording",
    kept_voices: "Kept voices",
    named_voices: "Named voices",
    manner: "How it sounds",
    any: "Not set",
    seed: "Seed",
    seed_hint: "random",
    speak: "Speak",
    stop: "Stop",
    player: "The speech",
    play: "Play",
    pause: "Pause",
    position: "Position in the speech",
    at: "{at} of {length} seconds",
    asked: "Waiting for the first sound…",
    sounds: "First sound after {ms} ms; the rest is being made.",
    done: "{seconds} s of speech, made in {took} s. First sound after {ms} ms.",
    stopped: "Stopped; its place in the batch is free again.",
    nothing: "There was nothing to hear.",
    format: "Format of the file",
    download: "Download",
    making: "Making the file…",
    srt: "Subtitles .srt",
    vtt: "Subtitles .vtt",
    link: "Copy link",
    copied: "The link with text, settings and seed is copied.",
    link_address: "The address of this page has text, settings and seed.",
    batch: "The batch",
    batch_hint: "Each cell is a row of the batch: one utterance, or one part of a long text. Lit ones are being spoken, all in one step.",
    rows: "{busy} of {all} rows busy",
    worker: "Worker {number}: {busy} of {all} rows busy",
    workers: "Workers",
    waiting: "Jobs waiting",
    wait: "Estimated wait",
    speed_now: "Speech made",
    seconds: "{n} s",
    a_second: "{n} s a second",
    no_worker: "No worker listens.",
    unreachable: "The gateway does not answer.",
    broken: "The audio broke off before its end.",
    key_title: "A key is needed",
    key_hint: "This gateway answers to those who have an API key. It is kept until this tab is closed.",
    key: "API key",
    use_key: "Use",
    clone: "A voice of your own",
    clone_hint: "Record somebody who agrees to it, or choose or drop a file. A few quiet seconds are enough, for example:",
    passage: "The small ships come home to the quiet harbour when the sun goes down.",
    record: "Record",
    record_stop: "Stop recording",
    choose: "Choose a file",
    recording: "Recording, {seconds} s",
    discard: "Discard",
    transcript: "What is said in it",
    used: "The next text is spoken with this recording; it is sent along and not kept.",
    name: "Keep it as a voice named",
    keep: "Keep",
    consent: "The person whose voice it is has agreed.",
    keeping: "Making the voice…",
    kept: "Kept: {name} is among the voices now.",
    refused: "The browser was not allowed to use the microphone. Allow it in the address bar, or choose a file.",
    no_microphone: "No microphone was found. Choose a file instead.",
    insecure: "Browsers record on https:// or on this machine only. Choose a file instead.",
    too_large: "The file is larger than 8 MiB.",
    unreadable: "The file cannot be read.",
    footer: "This page sends nothing to any other place.",
    age: "Age",
    gender: "Gender",
    emotion: "Emotion",
    pitch: "Pitch",
    speed: "Speed",
  },
  zh: {
    skip: "跳到文本",
    tagline: "输入文字，选择声音，边合成边听。",
    other: "English",
    input: "要说什么？",
    placeholder: "任意长度的文字……",
    sentence: "一句话",
    story: "一个故事",
    sentence_text: "许多声音共用一个模型。无论独自说话，还是同时合成，每个声音都不会改变。",
    story_text:
      "太阳升起的时候，男孩已经在那里了。他看着一只只小船回到安静的港口。母亲告诉过他，最后一只船是红色的。\n\n" +
      "第一只船是灰色的，装着鱼。第二只船是白色的，装着南方来的盐和布。第三只船太旧了，谁也不知道它原来是什么颜色。\n\n" +
      "他一直等到中午。风转向西边，海鸥飞了回来，一位老人在他身旁坐下。“今天她会晚一些，”老人说，“潮水不顺。”\n\n" +
      "傍晚，所有的灯都亮了，一片红帆出现在两座塔之间。男孩跑向水边，全城都听见了他的喊声。",
    voice: "声音",
    described: "按下面的描述",
    recorded: "刚才的录音",
    kept_voices: "保存的声音",
    named_voices: "现有的声音",
    manner: "声音的样子",
    any: "不指定",
    seed: "种子",
    seed_hint: "随机",
    speak: "朗读",
    stop: "停止",
    player: "语音",
    play: "播放",
    pause: "暂停",
    position: "播放位置",
    at: "第 {at} 秒，共 {length} 秒",
    asked: "正在等待第一段声音……",
    sounds: "{ms} 毫秒后有了第一段声音，其余还在合成。",
    done: "{seconds} 秒语音，用了 {took} 秒合成；{ms} 毫秒后有了第一段声音。",
    stopped: "已停止，批次里的位置已经让出。",
    nothing: "没有可听的内容。",
    format: "文件格式",
    download: "下载",
    making: "正在生成文件……",
    srt: "字幕 .srt",
    vtt: "字幕 .vtt",
    link: "复制链接",
    copied: "已复制链接，包含文字、设置和种子。",
    link_address: "本页地址已包含文字、设置和种子。",
    batch: "批次",
    batch_hint: "每一格是批次中的一行：一句话，或长文本的一段。亮着的格子正在同一步里一起合成。",
    rows: "{all} 行中有 {busy} 行在忙",
    worker: "第 {number} 个 worker：{all} 行中有 {busy} 行在忙",
    workers: "worker 数",
    waiting: "排队的任务",
    wait: "预计等待",
    speed_now: "合成速度",
    seconds: "{n} 秒",
    a_second: "每秒 {n} 秒语音",
    no_worker: "没有 worker 在工作。",
    unreachable: "网关没有回应。",
    broken: "音频没有结束就中断了。",
    key_title: "需要密钥",
    key_hint: "这个网关只回应持有 API 密钥的人。密钥保存到关闭此标签页为止。",
    key: "API 密钥",
    use_key: "使用",
    clone: "用您自己的声音",
    clone_hint: "录下一位同意的人，或选择、拖入一个文件。安静的几秒钟就够了，例如读这一句：",
    passage: "太阳落山的时候，一只只小船回到安静的港口。",
    record: "录音",
    record_stop: "停止录音",
    choose: "选择文件",
    recording: "正在录音，{seconds} 秒",
    discard: "丢弃",
    transcript: "录音里说的话",
    used: "接下来的文字用这段录音的声音朗读；录音随请求发送，不会保存。",
    name: "保存为声音，名字是",
    keep: "保存",
    consent: "声音的主人已经同意。",
    keeping: "正在生成声音……",
    kept: "已保存：{name} 现在可以选用了。",
    refused: "浏览器没有得到使用麦克风的许可。请在地址栏里允许，或者选择文件。",
    no_microphone: "没有找到麦克风，请选择文件。",
    insecure: "浏览器只在 https:// 或本机上录音，请选择文件。",
    too_large: "文件大于 8 MiB。",
    unreadable: "无法读取文件。",
    footer: "本页不向任何其他地方发送数据。",
    age: "年龄",
    gender: "性别",
    emotion: "情绪",
    pitch: "音高",
    speed: "语速",
  },
};

/** Values of the API in Chinese; in English they are words already. @type {Record<string, string>} */
const CHINESE = {
  child: "儿童", teenager: "少年", "youth-adult": "青年", "middle-aged": "中年", elderly: "老年",
  female: "女", male: "男",
  low_pitch: "低", medium_pitch: "中", high_pitch: "高", very_high_pitch: "很高",
  very_slow: "很慢", slow: "慢", medium: "中", fast: "快", very_fast: "很快",
  unknown: "未知", neutral: "平静", angry: "生气", happy: "高兴", sad: "悲伤", fearful: "害怕", disgusted: "厌恶",
  surprised: "惊讶", sarcastic: "讽刺", excited: "兴奋", sleepy: "困倦", confused: "困惑", emphasis: "强调",
  laughing: "笑", singing: "唱", worried: "担心", whisper: "耳语", anxious: "焦虑", "no-agreement": "不赞同",
  apologetic: "抱歉", concerned: "关切", enunciated: "字正腔圆", assertive: "坚定", encouraging: "鼓励", contempt: "轻蔑",
};

/** @type {Language} */
let language = navigator.language.startsWith("zh") ? "zh" : "en";

/**
 * What something is called in the language of the page.
 * @param {string} name
 * @param {Record<string, string | number>} [values] in place of its braces
 */
export function word(name, values = {}) {
  return WORDS[language][name].replace(/\{(\w+)\}/g, (_, key) => String(values[key]));
}

/**
 * What a value of the API is called: its name where there is no better word.
 * @param {string} value
 */
export function valueWord(value) {
  if (language === "zh" && value in CHINESE) return CHINESE[value];
  const plain = value.replace(/_pitch$/, "").replace(/[_-]/g, " ");
  return plain[0].toUpperCase() + plain.slice(1);
}

/** What goes wrong on this side; its message is the name of a word. */
export class Trouble extends Error {}

/**
 * Have an element say something, also after a change of language.
 * @param {HTMLElement} element
 * @param {string} name
 * @param {Record<string, string | number>} [values]
 */
export function say(element, name, values = {}) {
  Object.assign(element.dataset, values, { word: name });
  element.textContent = word(name, values);
}

/** Change to the other language. */
export function switchLanguage() {
  language = language === "en" ? "zh" : "en";
}

/** Write the words into the page. */
export function writeWords() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-word]")) {
    element.textContent = word(element.dataset.word, element.dataset);
  }
  for (const element of document.querySelectorAll("[data-word-label]")) {
    element.setAttribute("aria-label", word(element.dataset.wordLabel));
  }
  for (const element of document.querySelectorAll("[data-value]")) {
    element.textContent = valueWord(element.dataset.value);
  }
}
