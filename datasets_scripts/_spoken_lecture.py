"""A lecture about machine learning, held in Mandarin with the terms in English, with its translation.

See `_templates` for how lists and tables are written and what the braces mean.
"""

from __future__ import annotations

import re

import numpy as np

from ._templates import lists, parallel, tables

# English in the lecture as in its translation.
_TERMS = lists("""
method: gradient descent | back propagation | dropout | self attention | batch normalization | data augmentation |
    beam search | teacher forcing | weight decay | label smoothing | fine tuning | contrastive learning |
    knowledge distillation | pruning
model: transformer | encoder | decoder | language model | generator | discriminator | neural network |
    teacher model | student model | acoustic model
task: speech recognition | machine translation | question answering | speaker verification | sentiment analysis |
    speech separation | keyword spotting
quantity: learning rate | batch size | hidden size | sequence length | loss | temperature | mask ratio
""")
_TABLES = {name: [(term, term) for term in terms] for name, terms in _TERMS.items()} | tables("""
so:
    |
    |
    那 | well
    然后 | then
    其实 | in fact
    所以 | so
    接下来 | next
bad:
    训练就会很慢 | training gets slow
    结果就会变差 | the results get worse
    就会 overfitting | there is overfitting
    gradient 就会爆炸 | the gradient explodes
    就学不到东西 | nothing is learned
    记忆体就不够 | there is not enough memory
thing:
    一段声音 | a piece of sound
    一个句子 | a sentence
    一个 vector | a vector
    一个 probability distribution | a probability distribution
    一张图片 | a picture
    一个 embedding | an embedding
data:
    标注的资料 | labelled data
    足够的训练资料 | enough training data
    成对的资料 | paired data
    这个语言的资料 | data of this language
part:
    attention | attention
    最后一层 | the last layer
    activation function | the activation function
    positional encoding | the positional encoding
    softmax | the softmax
number:
    两 | two
    三 | three
    四 | four
    六 | six
    八 | eight
    十 | ten
    十二 | twelve
""")
_SENTENCES = [
    tuple(sentence.splitlines())
    for sentence in """
{so}我们用{method}来训练这个{model}
{so} we use {method} to train this {model}

{so}如果{quantity}太大{bad}
{so} if the {quantity} is too large {bad}

{so}如果{quantity}太小{bad}
{so} if the {quantity} is too small {bad}

{so}今天要讲的是{method}
{so} what we talk about today is {method}

{so}这个{model}有{number}层
{so} this {model} has {number} layers

{so}{method}可以让{model}学得更快
{so} {method} lets the {model} learn faster

{so}在{task}这个任务上{model}的结果最好
{so} on the task of {task} the {model} gives the best results

{so}{model}的输入是{thing}输出是{thing2}
{so} the input of the {model} is {thing} and its output is {thing2}

{so}为什么需要{method}呢
{so} why do we need {method}

{so}大家的作业是用{model}做{task}
{so} your homework is to do {task} with a {model}

{so}你要把{quantity}调小一点
{so} you have to make the {quantity} a little smaller

{so}把{quantity}调大一点
{so} make the {quantity} a little larger

{so}{method}跟{method2}有什么不同
{so} what is the difference between {method} and {method2}

{so}我们先训练一个{model}再做{method}
{so} we first train a {model} and then do {method}

{so}没有{data}的时候可以用{method}
{so} when there is no {data} you can use {method}

{so}{quantity}在{number}个 epoch 以后就不动了
{so} the {quantity} no longer changes after {number} epochs

{so}有人把{method}用在{task}上面
{so} some people apply {method} to {task}

{so}{model}里面最重要的就是{part}
{so} the most important thing in the {model} is {part}

{so}每一个 token 都会变成{thing}
{so} every token becomes {thing}

{so}这个{model}只看过{number}个小时的声音
{so} this {model} has heard only {number} hours of sound
""".strip().split("\n\n")
]


def lecture(rng: np.random.Generator) -> tuple[str, str]:
    """A sentence of the lecture, and in English. English words stand apart, as speech needs them."""
    mixed, english = parallel(rng, _SENTENCES, _TABLES)
    return re.sub(r"(?<=[\u4e00-\u9fff])(?=[a-z])|(?<=[a-z])(?=[\u4e00-\u9fff])", " ", mixed), english
