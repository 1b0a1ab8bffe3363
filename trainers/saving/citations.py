"""Whom to cite for an objective, in BibTeX."""

HINTON_2015 = """@misc{hinton2015distilling,
  title = {Distilling the Knowledge in a Neural Network},
  author = {Hinton, Geoffrey and Vinyals, Oriol and Dean, Jeff},
  year = {2015},
  eprint = {1503.02531},
  archivePrefix = {arXiv},
}"""

TUNG_2019 = """@inproceedings{tung2019similarity,
  title = {Similarity-Preserving Knowledge Distillation},
  author = {Tung, Frederick and Mori, Greg},
  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision},
  year = {2019},
  eprint = {1907.09682},
  archivePrefix = {arXiv},
}"""

JIAO_2020 = """@inproceedings{jiao2020tinybert,
  title = {{TinyBERT}: Distilling {BERT} for Natural Language Understanding},
  author = {Jiao, Xiaoqi and Yin, Yichun and Shang, Lifeng and Jiang, Xin and Chen, Xiao and Li, Linlin
            and Wang, Fang and Liu, Qun},
  booktitle = {Findings of the Association for Computational Linguistics: EMNLP 2020},
  year = {2020},
  eprint = {1909.10351},
  archivePrefix = {arXiv},
}"""

REIMERS_2020 = """@inproceedings{reimers2020multilingual,
  title = {Making Monolingual Sentence Embeddings Multilingual using Knowledge Distillation},
  author = {Reimers, Nils and Gurevych, Iryna},
  booktitle = {Proceedings of the 2020 Conference on Empirical Methods in Natural Language Processing},
  year = {2020},
  eprint = {2004.09813},
  archivePrefix = {arXiv},
}"""

WANG_2021 = """@inproceedings{wang2021minilmv2,
  title = {{MiniLMv2}: Multi-Head Self-Attention Relation Distillation for Compressing Pretrained Transformers},
  author = {Wang, Wenhui and Bao, Hangbo and Huang, Shaohan and Dong, Li and Wei, Furu},
  booktitle = {Findings of the Association for Computational Linguistics: ACL-IJCNLP 2021},
  year = {2021},
  eprint = {2012.15828},
  archivePrefix = {arXiv},
}"""

GAO_2021 = """@misc{gao2021distilcse,
  title = {{DistilCSE}: Effective Knowledge Distillation For Contrastive Sentence Embeddings},
  author = {Gao, Chaochen and Wu, Xing and Wang, Peng and Wang, Jue and Zang, Liangjun and Wang, Zhongyuan
            and Hu, Songlin},
  year = {2021},
  eprint = {2112.05638},
  archivePrefix = {arXiv},
}"""

DING_2022 = """@inproceedings{ding2022multistage,
  title = {Multi-stage Distillation Framework for Cross-Lingual Semantic Similarity Matching},
  author = {Ding, Kunbo and Liu, Weijie and Fang, Yuejian and Zhao, Zhe and Ju, Qi and Yang, Xuefeng},
  booktitle = {Findings of the Association for Computational Linguistics: NAACL 2022},
  year = {2022},
  eprint = {2209.05869},
  archivePrefix = {arXiv},
}"""

SIMCSE_2021 = """@inproceedings{gao2021simcse,
  title = {{SimCSE}: Simple Contrastive Learning of Sentence Embeddings},
  author = {Gao, Tianyu and Yao, Xingcheng and Chen, Danqi},
  booktitle = {Proceedings of the 2021 Conference on Empirical Methods in Natural Language Processing},
  year = {2021},
  eprint = {2104.08821},
  archivePrefix = {arXiv},
}"""

DEVLIN_2019 = """@inproceedings{devlin2019bert,
  title = {{BERT}: Pre-training of Deep Bidirectional Transformers for Language Understanding},
  author = {Devlin, Jacob and Chang, Ming-Wei and Lee, Kenton and Toutanova, Kristina},
  booktitle = {Proceedings of the 2019 Conference of the North American Chapter of the Association for
               Computational Linguistics},
  year = {2019},
  eprint = {1810.04805},
  archivePrefix = {arXiv},
}"""

KOLESNIKOVA_2022 = """@misc{kolesnikova2022vocabulary,
  title = {Knowledge Distillation of Russian Language Models with Reduction of Vocabulary},
  author = {Kolesnikova, Alina and Kuratov, Yuri and Konovalov, Vasily and Burtsev, Mikhail},
  year = {2022},
  eprint = {2205.02340},
  archivePrefix = {arXiv},
}"""

CITATIONS = {
    "contrastive": GAO_2021,
    "positives": SIMCSE_2021,
    "mcl": DING_2022,
    "source": REIMERS_2020,
    "target": REIMERS_2020,
    "logits": HINTON_2015,
    "similarity": TUNG_2019,
    "hidden": JIAO_2020,
    "attention": JIAO_2020,
    "embedding": REIMERS_2020,
    "relations": WANG_2021,
    "mlm": DEVLIN_2019,
    "vocabulary": KOLESNIKOVA_2022,
    "token_contrast": KOLESNIKOVA_2022,
}


def citations_of(objectives: list[str]) -> tuple[str, ...]:
    """BibTeX entries for the names of objectives, each once; task labels have none."""
    return tuple(dict.fromkeys(CITATIONS[name] for name in objectives if name in CITATIONS))
