"""The published model in its plainest form, but smaller: modules in a list, no masks, explicit softmax. Its weights are
saved as the authors' checkpoints are.
"""

import math

import torch
from torch import nn
from transformers import BertConfig, BertModel

WIDTH, UNITS = 48, 32
BERT = BertConfig(
    vocab_size=200, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
    hidden_dropout_prob=0.1,
)  # fmt: skip
VIDEO_ATTENDS = {"text_first": ("text", "audio"), "audio_first": ("audio", "text")}


class Projections(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))


class Pooling(nn.Module):
    def __init__(self):
        super().__init__()
        self.u, self.v = nn.Linear(WIDTH, WIDTH), nn.Parameter(torch.randn(WIDTH))


def norm(width=WIDTH):
    return nn.Sequential(nn.Dropout(0.2), nn.LayerNorm(width))


def lstm(features):
    return nn.LSTM(features, UNITS, num_layers=2, bidirectional=True, batch_first=True)


def projection():
    return nn.Sequential(nn.Linear(2 * UNITS, WIDTH), nn.LayerNorm(WIDTH), nn.Dropout(0.3))


def head():
    first = [nn.Linear(3 * WIDTH, 200), nn.BatchNorm1d(200), nn.Dropout(0.3)]
    second = [nn.Linear(200, 40), nn.BatchNorm1d(40), nn.Dropout(0.3)]
    return nn.Sequential(*first, *second, nn.Linear(40, 20), nn.Linear(20, 2))


class Published(nn.Module):
    def __init__(self, video_order="text_first", heads=("img_audio_text_linear_mature", "img_audio_text_linear_gory")):
        super().__init__()
        self.video_order = video_order
        segments = [lstm(1024), norm(2 * UNITS), lstm(128), norm(2 * UNITS)]
        encoders = [BertModel(BERT), *segments, projection(), projection()]
        attention = [module for _ in range(3) for module in (Projections(), norm(), norm())]
        pooling = [module for _ in range(3) for module in (Pooling(), norm())]
        self.features = nn.ModuleList([*encoders, *attention, *pooling])
        for name in heads:
            setattr(self, name, head())
        for parameter in self.parameters():  # norms too, lest one be taken for another
            if parameter.ndim == 1:
                nn.init.normal_(parameter, 0.5, 0.5)

    def attend(self, module, queries, others):
        def split(hidden):
            return hidden.view(*hidden.shape[:2], 12, WIDTH // 12).permute(0, 2, 1, 3)

        q, k, v = split(module.query(queries)), split(module.key(others)), split(module.value(others))
        attended = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(WIDTH // 12), dim=3) @ v
        return attended.permute(0, 2, 1, 3).reshape(queries.shape)

    def block(self, first, own, encoded, order):
        hidden = own
        for step, other in enumerate(order):
            hidden = self.features[first + 1 + step](self.attend(self.features[first], hidden, encoded[other]))
        return hidden + own

    def pool(self, first, hidden):
        pooling = self.features[first]
        weights = torch.softmax(torch.tanh(pooling.u(hidden)) @ pooling.v, dim=1)
        return self.features[first + 1]((weights[:, :, None] * hidden).sum(dim=1))

    def trunk(self, text, video, audio):
        f = self.features
        encoded = {
            "text": f[0](text).last_hidden_state,
            "video": f[6](f[2](f[1](video)[0])),
            "audio": f[5](f[4](f[3](audio)[0])),
        }
        text = self.block(7, encoded["text"], encoded, ("video", "audio"))
        audio = self.block(10, encoded["audio"], encoded, ("video", "text"))
        video = self.block(13, encoded["video"], encoded, VIDEO_ATTENDS[self.video_order])
        return torch.cat([self.pool(16, text), self.pool(18, audio), self.pool(20, video)], dim=1)
