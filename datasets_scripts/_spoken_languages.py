"""What the speakers of spoken say in other languages: strings of common words, and phrases with their translation.

See `_templates` for how lists and tables are written and what the braces mean.
"""

from __future__ import annotations

import numpy as np

from ._templates import lists, parallel, pick, tables

# espeak's name of a language -> common words of it; a number stands for any.
WORDS = lists("""
gmw/de: und das Haus ist nicht gut ich habe einen Hund wir gehen heute Wasser Freund klein groß Tag Nacht schön Buch
    27
gmw/nl: en het huis is niet goed ik heb een hond wij gaan vandaag water vriend klein groot dag nacht mooi boek 34
gmq/sv: och huset är inte bra jag har en hund vi går idag vatten vän liten stor dag natt vacker bok skola 61
gmq/da: og huset er ikke godt jeg har en hund vi går i dag vand ven lille stor nat smuk bog skole 72
gmq/nb: og huset er ikke bra jeg har en hund vi går i dag vann venn liten stor natt vakker bok skole 85
gmq/is: og húsið er ekki gott ég á hund við förum í dag vatn vinur lítill stór nótt fallegur bók skóli 43
roa/fr: et la maison est très bonne je ne sais pas un chien nous allons eau ami petit grand jour nuit beau livre 96
roa/es: y la casa no es buena yo tengo un perro vamos hoy agua amigo pequeño grande día noche libro escuela 58
roa/it: e la casa non è buona io ho un cane andiamo oggi acqua amico piccolo grande giorno notte bello libro 39
roa/pt: e a casa não é boa eu tenho um cão vamos hoje água amigo pequeno grande dia noite livro escola 64
roa/ro: și casa nu este bună eu am un câine mergem azi apă prieten mic mare zi noapte frumos carte școală 23
roa/ca: i la casa no és bona jo tinc un gos anem avui aigua amic petit gran dia nit bonic llibre escola 45
zlw/pl: i dom nie jest dobry mam psa idziemy dzisiaj woda przyjaciel mały duży dzień noc piękny książka szkoła 92
zlw/cs: a dům není dobrý mám psa jdeme dnes voda přítel malý velký den noc krásný kniha škola 31
zle/ru: и дом не хороший у меня есть собака мы идём сегодня вода друг маленький большой день ночь книга школа 54
zls/hr: i kuća nije dobra imam psa idemo danas voda prijatelj mali velik dan noć lijep knjiga škola 76
bat/lt: ir namas nėra geras aš turiu šunį mes einame šiandien vanduo draugas mažas didelis diena naktis knyga 38
urj/fi: ja talo ei ole hyvä minulla on koira me menemme tänään vesi ystävä pieni suuri päivä yö kaunis kirja 67
urj/hu: és a ház nem jó van egy kutyám ma megyünk víz barát kicsi nagy nap éjszaka szép könyv iskola 83
urj/et: ja maja ei ole hea mul on koer me läheme täna vesi sõber väike suur päev öö ilus raamat kool 59
grk/el: και το σπίτι δεν είναι καλό έχω ένα σκύλο πάμε σήμερα νερό φίλος μικρός μεγάλος μέρα νύχτα βιβλίο σχολείο 21
trk/tr: ve ev iyi değil benim bir köpeğim var bugün gidiyoruz su arkadaş küçük büyük gün gece güzel kitap okul 48
poz/id: dan rumah tidak baik saya punya anjing kami pergi hari ini air teman kecil besar malam indah buku sekolah 74
bnt/sw: na nyumba si nzuri nina mbwa tunakwenda leo maji rafiki ndogo kubwa siku usiku kitabu shule mtoto chakula 36
inc/hi: और घर अच्छा नहीं है मेरे पास एक कुत्ता हम आज जाते हैं पानी दोस्त छोटा बड़ा दिन रात किताब 63
jpx/ja: わたし は いえ いぬ みず ともだち ちいさい おおきい きょう いきます ほん がっこう よる あさ たべます きれい 82
ko: 그리고 집 은 좋다 나는 개 물 친구 작은 큰 오늘 갑니다 책 학교 밤 아침 먹다 예쁜 사람 95
sit/cmn: 我们 房子 不 好 狗 今天 去 水 朋友 小 大 白天 晚上 漂亮 书 学校 吃饭 喜欢 工作 56
sem/ar: و البيت ليس جيد عندي كلب نذهب اليوم ماء صديق صغير كبير نهار ليل جميل كتاب مدرسة 41
art/eo: kaj la domo ne estas bona mi havas hundon ni iras hodiaŭ akvo amiko malgranda granda tago nokto libro 29
""")

# Phrases: English, German, French, Mandarin.
SOURCES = {"german": "gmw/de", "french": "roa/fr", "mandarin": "sit/cmn"}
_PHRASES = [
    tuple(phrase.splitlines())
    for phrase in """
i would like {food} please
ich möchte bitte {food}
je voudrais {food} s'il vous plaît
请给我{food}

{time} we are going to {city}
{time} fahren wir nach {city}
{time} nous allons à {city}
我们{time}去{city}

{who} works in {city}
{who} arbeitet in {city}
{who} travaille à {city}
{who}在{city}工作

{who} speaks {tongue}
{who} spricht {tongue}
{who} parle {tongue}
{who}说{tongue}

do you speak {tongue}
sprechen Sie {tongue}
parlez-vous {tongue}
你会说{tongue}吗

where is {place}
wo ist {place}
où est {place}
{place}在哪里

the weather in {city} is {weather} {time}
{time} ist das Wetter in {city} {weather}
{time} à {city} il fait {weather}
{time}{city}的天气很{weather}

{who} has {number} {animals}
{who} hat {number} {animals}
{who} a {number} {animals}
{who}有{number}只{animals}

the train to {city} leaves at {number} o'clock
der Zug nach {city} fährt um {number} Uhr ab
le train pour {city} part à {number} heures
去{city}的火车{number}点出发

{who} buys {food} {time}
{who} kauft {time} {food}
{time} {who} achète {food}
{who}{time}买{food}

{who} and {who2} play {game}
{who} und {who2} spielen {game}
{who} et {who2} jouent {game}
{who}和{who2}一起{game}

{place} is {state}
{place} ist {state}
{place} est {state}
{place}{state}

{who} is not at home {time}
{who} ist {time} nicht zu Hause
{who} n'est pas à la maison {time}
{who}{time}不在家

how much does {food} cost in {city}
was kostet {food} in {city}
combien coûte {food} à {city}
在{city}{food}多少钱

{who} would like to live in {city}
{who} möchte in {city} wohnen
{who} voudrait habiter à {city}
{who}想住在{city}

{who} wants {food} at {number} o'clock
{who} möchte um {number} Uhr {food}
{who} veut {food} à {number} heures
{who}{number}点要{food}
""".strip().split("\n\n")
]
_PHRASE_TABLES = tables("""
food:
    a soup | eine Suppe | une soupe | 一碗汤
    a loaf of bread | ein Brot | un pain | 一个面包
    an egg | ein Ei | un œuf | 一个鸡蛋
    an orange | eine Orange | une orange | 一个橙子
    a banana | eine Banane | une banane | 一根香蕉
    a tomato | eine Tomate | une tomate | 一个西红柿
    a piece of chocolate | ein Stück Schokolade | un morceau de chocolat | 一块巧克力
    a pizza | eine Pizza | une pizza | 一个比萨饼
    a lemon | eine Zitrone | un citron | 一个柠檬
    a cup of tea | eine Tasse Tee | une tasse de thé | 一杯茶
    a glass of water | ein Glas Wasser | un verre d'eau | 一杯水
    a bottle of milk | eine Flasche Milch | une bouteille de lait | 一瓶牛奶
time:
    today | heute | aujourd'hui | 今天
    tomorrow | morgen | demain | 明天
    on monday | am Montag | lundi | 星期一
    on friday | am Freitag | vendredi | 星期五
    next week | nächste Woche | la semaine prochaine | 下个星期
    this evening | heute Abend | ce soir | 今天晚上
    tomorrow morning | morgen früh | demain matin | 明天早上
    on wednesday | am Mittwoch | mercredi | 星期三
    this afternoon | heute Nachmittag | cet après-midi | 今天下午
    next month | nächsten Monat | le mois prochain | 下个月
city:
    berlin | Berlin | Berlin | 柏林
    paris | Paris | Paris | 巴黎
    london | London | Londres | 伦敦
    beijing | Peking | Pékin | 北京
    taipei | Taipeh | Taipei | 台北
    rome | Rom | Rome | 罗马
    vienna | Wien | Vienne | 维也纳
    moscow | Moskau | Moscou | 莫斯科
    new york | New York | New York | 纽约
    tokyo | Tokio | Tokyo | 东京
    madrid | Madrid | Madrid | 马德里
    geneva | Genf | Genève | 日内瓦
    shanghai | Schanghai | Shanghai | 上海
    cologne | Köln | Cologne | 科隆
who:
    my brother | mein Bruder | mon frère | 我哥哥
    my sister | meine Schwester | ma sœur | 我姐姐
    our teacher | unser Lehrer | notre professeur | 我们的老师
    your mother | deine Mutter | ta mère | 你妈妈
    our father | unser Vater | notre père | 我们的爸爸
    the doctor | der Arzt | le médecin | 医生
    my friend | mein Freund | mon ami | 我的朋友
    the new student | der neue Student | le nouvel étudiant | 新学生
    your aunt | deine Tante | ta tante | 你阿姨
    our neighbour | unser Nachbar | notre voisin | 我们的邻居
    my grandmother | meine Großmutter | ma grand-mère | 我奶奶
    the engineer | der Ingenieur | l'ingénieur | 工程师
tongue:
    german | Deutsch | allemand | 德语
    french | Französisch | français | 法语
    chinese | Chinesisch | chinois | 汉语
    russian | Russisch | russe | 俄语
    japanese | Japanisch | japonais | 日语
    portuguese | Portugiesisch | portugais | 葡萄牙语
place:
    the station | der Bahnhof | la gare | 火车站
    the hospital | das Krankenhaus | l'hôpital | 医院
    the school | die Schule | l'école | 学校
    the museum | das Museum | le musée | 博物馆
    the library | die Bibliothek | la bibliothèque | 图书馆
    the bank | die Bank | la banque | 银行
    the airport | der Flughafen | l'aéroport | 机场
weather:
    cold | kalt | froid | 冷
    hot | heiß | chaud | 热
    good | gut | beau | 好
    bad | schlecht | mauvais | 不好
number:
    two | zwei | deux | 两
    three | drei | trois | 三
    four | vier | quatre | 四
    five | fünf | cinq | 五
    six | sechs | six | 六
    seven | sieben | sept | 七
    eight | acht | huit | 八
    nine | neun | neuf | 九
    ten | zehn | dix | 十
    eleven | elf | onze | 十一
animals:
    cats | Katzen | chats | 猫
    dogs | Hunde | chiens | 狗
    birds | Vögel | oiseaux | 鸟
    rabbits | Hasen | lapins | 兔子
    chickens | Hühner | poules | 鸡
    fish | Fische | poissons | 鱼
game:
    football | Fußball | au football | 踢足球
    tennis | Tennis | au tennis | 打网球
    chess | Schach | aux échecs | 下棋
    cards | Karten | aux cartes | 打牌
    basketball | Basketball | au basket | 打篮球
    volleyball | Volleyball | au volley | 打排球
state:
    next to the church | neben der Kirche | à côté de l'église | 在教堂旁边
    far from here | weit von hier | loin d'ici | 离这里很远
    near the river | in der Nähe vom Fluss | près de la rivière | 在河边
""")


def foreign(rng: np.random.Generator, language: str) -> str:
    """Three to nine common words of a language in any order, with a number among them now and then."""
    chosen = [pick(rng, WORDS[language]) for _ in range(int(rng.integers(3, 10)))]
    return " ".join(str(rng.integers(1, 1000)) if word.isdigit() else word for word in chosen)


def phrase(rng: np.random.Generator, language: str) -> tuple[str, str]:
    """A phrase in one of `SOURCES`, and in English."""
    english, *others = parallel(rng, _PHRASES, _PHRASE_TABLES)
    return others[list(SOURCES).index(language)], english
