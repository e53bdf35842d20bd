"""How to read the figures of an encoder's robustness, and what published encoders have."""

# RI, MaRI, CRoMa's median, mean of the worst tenth and share at or below 0 on TCGA-4x4, 5,760 patches of four classes
# by four hospitals, as croma's authors publish them (Grisi et al., arXiv 2607.25497). DINOv2-B saw no pathology.
TCGA_4X4 = {
    "DINOv2-B": {"ri": 0.540, "mari": 0.513, "croma": 0.006, "croma_worst_tenth": -0.122, "croma_below_zero": 0.468},
    "UNI": {"ri": 0.673, "mari": 0.678, "croma": 0.047, "croma_worst_tenth": -0.120, "croma_below_zero": 0.320},
    "Virchow2": {"ri": 0.771, "mari": 0.795, "croma": 0.128, "croma_worst_tenth": -0.170, "croma_below_zero": 0.239},
}
READING = {
    "robustness_index": "PathoROB's RI by patches of all combinations alike, with its 95 % interval: above 0.5 class "
    "outweighs site",
    "ri": "of the neighbours that share class or site alone, the share that shares the class; above 0.5 class "
    "outweighs site",
    "ri_k": "neighbours that RI looks at: the number that tells classes best",
    "ri_support": "share of patches that have such neighbours; with little support RI says little",
    "mari": "RI with near neighbours weighing more; above 0.5 class outweighs site",
    "mari_tau": "distance at which a neighbour's weight has fallen to 1 / e, the median of such neighbours",
    "mari_support": "share of patches that have such neighbours",
    "croma": "how much nearer the same class at other sites is than other classes at the same site, from -1 to 1, the "
    "median; below 0 the site is nearer",
    "croma_worst_tenth": "CRoMa's mean in the worst tenth of the patches: a good median can hide them",
    "croma_below_zero": "share of patches to which another class of their site is as near as their class elsewhere",
    "clustering_score": "how well clusters agree with the class less how well with the site, from -1 to 1; below 0 "
    "they are sites",
    "apd": "relative accuracy that a probe loses where training confounds class and site; 0 is none",
    "nipd": "skill above chance that is lost, over all strengths of confounding; -0.5 is a straight fall to chance",
}
