"""The words by which the pipeline recognises moods, places, times, weather and characters.

A lexicon, not a language model: English in its common forms, and Chinese by its characters.
"""

from __future__ import annotations

import re
from collections import Counter

MOODS: dict[str, str] = {
    "joy": "happy joy joyful joyous laugh smile delight merry cheer play dance sing sang glad celebrate feast won win "
    "friend thank welcome love hug 高兴 快乐 笑 欢 喜 开心 朋友 爱",
    "calm": "calm quiet gentle gently sleep asleep slept rest peace peaceful soft softly still slow steady doze nap "
    "plod patient breeze silence evening 安静 平静 睡 休息 宁静 慢",
    "sad": "sad sadness cry cried weep wept tear sorrow lonely alone lost die died dead death mourn alas sigh hungry "
    "poor cold grief ashamed sorry 悲 哭 泪 孤独 死 难过 伤心 饿",
    "fear": "afraid fear fright frighten frightened terror tremble shook danger trap trapped caught net snare hide hid "
    "beg helpless scared dread struggle rope hunter scream 怕 恐 惊 危险 陷阱 发抖",
    "anger": "angry anger rage roar roared growl fight fought furious fury shout hate fierce bite bit strike struck "
    "tore claw quarrel snarl 怒 吼 恨 打 凶 咬",
    "wonder": "wonder marvel magic star starry shine shone glow dream bright surprise astonish amaze amazed wish "
    "silver strange miracle secret stare 奇 梦 星 光 惊奇 魔",
    "pride": "proud proudly boast boasted king queen crown mock tease scorn vain fast swift faster mighty noble brag "
    "sneer throne 骄傲 骄 王 自豪 嘲",
}
SETTINGS: dict[str, str] = {
    "forest": "forest wood woods woodland tree jungle thicket oak pine branch 森林 树林 树 林",
    "meadow": "meadow field grass pasture hill garden flower clover farm flock countryside 草地 田 草 花园 花",
    "road": "road path lane track course race highway finish milestone journey 路 道 跑",
    "river": "river stream brook bank pond lake bridge water ford 河 溪 湖 池 桥 水",
    "sea": "sea ocean ship boat wave shore beach sail island harbour harbor 海 船 浪 岛",
    "mountain": "mountain cliff peak rock valley crag summit 山 岩 峰 谷",
    "village": "village town street market house cottage city neighbour neighbor 村 镇 街 市",
    "indoors": "room kitchen table fire hearth door window bed chair cupboard pantry inside 屋 房 家 门 窗 床",
    "desert": "desert sand dune camel oasis 沙漠 沙",
    "castle": "castle palace tower fortress kingdom gate court 宫 城堡 城 塔",
    "cave": "cave den cavern tunnel burrow lair 洞",
    "snow": "snow ice frost winter frozen blizzard 雪 冰 冬",
}
TIMES: dict[str, str] = {
    "dawn": "dawn sunrise daybreak morning cockcrow 黎明 早晨 清晨 早上 日出",
    "day": "noon midday day daylight afternoon sunshine sun sunny 中午 白天 太阳 下午",
    "dusk": "dusk sunset evening twilight 黄昏 傍晚 日落 晚霞",
    "night": "night midnight moon moonlight dark darkness star stars 夜 月 星 晚上",
}
WEATHER: dict[str, str] = {
    "rain": "rain storm thunder lightning flood wet drizzle 雨 雷 暴风",
    "snow": "snow blizzard frost snowflake 雪",
    "mist": "mist fog haze smoke cloud 雾 云 烟",
}
CAST: dict[str, str] = {
    "lion": "lion lioness 狮",
    "mouse": "mouse mice rat 鼠",
    "hare": "hare rabbit bunny 兔",
    "tortoise": "tortoise turtle 龟",
    "fox": "fox vixen 狐",
    "wolf": "wolf wolves 狼",
    "dog": "dog hound puppy 狗 犬",
    "cat": "cat kitten 猫",
    "bird": "bird crow raven swallow sparrow eagle owl dove hen cock rooster stork crane jackdaw peacock swan goose "
    "nightingale 鸟 乌鸦 燕 鹰 鸡 鹤 鹅",
    "sheep": "sheep lamb ram goat 羊",
    "horse": "horse mare pony stallion 马",
    "donkey": "donkey ass mule 驴",
    "deer": "deer stag doe fawn hart 鹿",
    "bear": "bear 熊",
    "bug": "ant grasshopper bee cricket beetle 蚂蚁 蚱蜢 蜂",
    "king": "king emperor sultan prince 国王 皇帝 王子",
    "queen": "queen princess lady 王后 公主",
    "woman": "woman women mother wife grandmother maid milkmaid girl daughter 女人 母亲 妈妈 奶奶 女孩 姑娘",
    "child": "boy child children son lad 男孩 孩子 小孩",
    "man": "man men farmer shepherd hunter father husband miller woodcutter fisherman traveller merchant "
    "男人 农夫 猎人 父亲 爸爸 老人 樵夫 农民 宋人",
}
ACTION = "run ran race rushed rush hurry leap leapt jump dash chase flew fly raced sprang bound fled gallop 跑 跳 飞 追"

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")


def _forms(word: str) -> set[str]:
    if not word.isascii() or len(word) < 3:
        return {word}
    stems = {
        word,
        word + "s",
        word + "es",
        word + "ed",
        word + "ing",
        word + "er",
        word + "ly",
        word + "'s",
        word + "’s",
    }
    if word.endswith("e"):
        stems |= {word + "d", word[:-1] + "ing"}
    if word.endswith("y"):
        stems |= {word[:-1] + "ies", word[:-1] + "ied", word[:-1] + "ily"}
    return stems


def _is_cjk(word: str) -> bool:
    return any("\u3400" <= character <= "\u9fff" for character in word)


def _index(lexicon: dict[str, str]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Two ways in: whole words by form, and Chinese strings, which have no word boundaries."""
    words: dict[str, str] = {}
    strings: list[tuple[str, str]] = []
    for tag, entries in lexicon.items():
        for entry in entries.split():
            if _is_cjk(entry):
                strings.append((entry, tag))
            for form in _forms(entry):
                words.setdefault(form, tag)
    return words, strings


_INDEX = {
    "mood": _index(MOODS),
    "setting": _index(SETTINGS),
    "time": _index(TIMES),
    "weather": _index(WEATHER),
    "cast": _index(CAST),
    "action": _index({"action": ACTION}),
}


def tokens(text: str) -> list[str]:
    """Return the text's words in lower case; a script without spaces gives long ones."""
    return [word.lower() for word in _WORD.findall(text)]


def count(kind: str, text: str) -> Counter[str]:
    """Count the tags of one kind of words in a text, in the order of their first appearance."""
    words, strings = _INDEX[kind]
    found = Counter(words[token] for token in tokens(text) if token in words)
    for entry, tag in strings:
        if times := text.count(entry):
            found[tag] += times
    return found
