"""Invented people, places, medicines and conditions."""

from __future__ import annotations

# fmt: off
FIRST_WOMEN = (
    "Ada", "Agnes", "Bertha", "Carla", "Clara", "Delia", "Edith", "Elsie", "Fern", "Greta", "Hazel", "Ida",
    "Irma",
    "Jolene", "Lena", "Mabel", "Marta", "Nora", "Opal", "Pearl", "Rosa", "Selma", "Tilda", "Ursula", "Vera",
    "Winona",
)
FIRST_MEN = (
    "Abel", "Amos", "Barnaby", "Cyrus", "Darius", "Elmer", "Emil", "Felix", "Gus", "Harlan", "Ira",
    "Jasper", "Kermit",
    "Lionel", "Milo", "Ned", "Orson", "Percy", "Quentin", "Rufus", "Silas", "Tobias", "Ulric", "Vernon",
    "Walter",
    "Zeke",
)
LAST = (
    "Abernathy", "Ashdown", "Birchwood", "Bramble", "Calloway", "Castellan", "Dunmore", "Ellery",
    "Fairweather",
    "Fenwick", "Gallant", "Greystone", "Hallowell", "Hartsworth", "Inverness", "Jessop", "Kettleman",
    "Larkspur",
    "Lockwood", "Marchbanks", "Merriweather", "Nightingale", "Oakhurst", "Pemberton", "Quillfeather",
    "Ravensworth",
    "Sandoval-Reyes", "Silverton", "Thackeray", "Thornbury", "Underhill", "Vandermeer", "Wexford", "Whitlock",
    "Yarborough", "Zimmerling",
)
CLINICIANS = (
    "Adler", "Boateng", "Chowdhury", "Dragomir", "Eriksen", "Ferrante", "Gupta", "Hamasaki", "Ibarra",
    "Jankowski",
    "Kowalczyk", "Lindqvist", "Mbeki", "Novotny", "Okafor", "Petrov", "Quintero", "Rasmussen", "Szabo",
    "Tanaka",
)
STREETS = ("Alder", "Briarcliff", "Cedar Hollow", "Dogwood", "Elmcrest", "Foxglove", "Goldfinch", "Hawthorne",
           "Ivy Ridge", "Juniper", "Kingfisher", "Lilac", "Mulberry", "Nutmeg", "Old Mill", "Partridge")
STREET_KINDS = ("Street", "Avenue", "Lane", "Road", "Court")
#: City, state, first three digits of the postal code, telephone area code. The cities do not exist.
CITIES = (
    ("Eastvale Springs", "OH", "432", "614"), ("Port Lindell", "WA", "981", "206"), ("Marrow Creek", "TX",
        "787", "512"),
    ("Halden Falls", "NY", "121", "518"), ("San Amaro", "CA", "945", "510"), ("Bellmont", "GA", "303", "404"),
    ("Cobble Bay", "ME", "040", "207"), ("Tern Harbor", "FL", "331", "305"), ("Dry Fork", "WY", "821", "307"),
    ("Lower Quill", "MN", "554", "612"),
)
#: Name as given, substance, class, dose, unit, frequency, route, indication, weight.
MEDICATIONS = (
    ("ASPIRIN", "ACETYLSALICYLIC ACID", "NERVOUS SYSTEM", 81.0, "mg", "QD", "ORAL", "PROPHYLAXIS", 9.0),
    ("MULTIVITAMIN", "MULTIVITAMINS", "ALIMENTARY TRACT AND METABOLISM", 1.0, "TABLET", "QD", "ORAL",
        "PROPHYLAXIS", 9.0),
    ("VITAMIN E", "TOCOPHEROL", "ALIMENTARY TRACT AND METABOLISM", 400.0, "IU", "BID", "ORAL",
     "PRIMARY STUDY CONDITION", 8.0),
    ("DONEPEZIL", "DONEPEZIL", "NERVOUS SYSTEM", 10.0, "mg", "QD", "ORAL", "PRIMARY STUDY CONDITION", 5.0),
    ("ATORVASTATIN", "ATORVASTATIN", "CARDIOVASCULAR SYSTEM", 20.0, "mg", "QD", "ORAL",
        "HYPERCHOLESTEROLAEMIA", 6.0),
    ("AMLODIPINE", "AMLODIPINE", "CARDIOVASCULAR SYSTEM", 5.0, "mg", "QD", "ORAL", "HYPERTENSION", 6.0),
    ("LISINOPRIL", "LISINOPRIL", "CARDIOVASCULAR SYSTEM", 10.0, "mg", "QD", "ORAL", "HYPERTENSION", 5.0),
    ("METFORMIN", "METFORMIN", "ALIMENTARY TRACT AND METABOLISM", 500.0, "mg", "BID", "ORAL", "DIABETES",
        3.0),
    ("LEVOTHYROXINE", "LEVOTHYROXINE", "SYSTEMIC HORMONAL PREPARATIONS, EXCL.", 0.075, "mg", "QD", "ORAL",
     "HYPOTHYROIDISM", 3.0),
    ("IBUPROFEN", "IBUPROFEN", "MUSCULO-SKELETAL SYSTEM", 400.0, "mg", "PRN", "ORAL", "ARTHRITIS", 4.0),
    ("CALCIUM", "CALCIUM", "ALIMENTARY TRACT AND METABOLISM", 600.0, "mg", "QD", "ORAL", "PROPHYLAXIS", 4.0),
    ("TIMOLOL", "TIMOLOL", "SENSORY ORGANS", 1.0, "gtt", "BID", "OPHTHALMIC", "GLAUCOMA", 2.0),
)
#: Medicines given for an adverse event: class, dose, unit, route.
RESCUE = {
    "HYDROCORTISONE, TOPICAL": ("DERMATOLOGICALS", 1.0, "%", "TOPICAL"),
    "DIPHENHYDRAMINE": ("RESPIRATORY SYSTEM", 25.0, "mg", "ORAL"),
    "METOCLOPRAMIDE": ("ALIMENTARY TRACT AND METABOLISM", 10.0, "mg", "ORAL"),
    "LOPERAMIDE": ("ALIMENTARY TRACT AND METABOLISM", 2.0, "mg", "ORAL"),
    "OMEPRAZOLE": ("ALIMENTARY TRACT AND METABOLISM", 20.0, "mg", "ORAL"),
    "PARACETAMOL": ("NERVOUS SYSTEM", 500.0, "mg", "ORAL"),
    "AMOXICILLIN": ("ANTIINFECTIVES FOR SYSTEMIC USE", 500.0, "mg", "ORAL"),
    "CIPROFLOXACIN": ("ANTIINFECTIVES FOR SYSTEMIC USE", 250.0, "mg", "ORAL"),
    "FUROSEMIDE": ("CARDIOVASCULAR SYSTEM", 20.0, "mg", "ORAL"),
    "AMLODIPINE": ("CARDIOVASCULAR SYSTEM", 5.0, "mg", "ORAL"),
}
DIAGNOSIS = ("ALZHEIMER'S DISEASE", "NERVOUS SYSTEM DISORDERS", "G30.9")
#: Condition, body system, ICD-10-CM code, prevalence at 75.
CONDITIONS = (
    ("HYPERTENSION", "VASCULAR DISORDERS", "I10", 0.48),
    ("OSTEOARTHRITIS", "MUSCULOSKELETAL AND CONNECTIVE TISSUE DISORDERS", "M19.90", 0.36),
    ("HYPERCHOLESTEROLAEMIA", "METABOLISM AND NUTRITION DISORDERS", "E78.00", 0.33),
    ("CATARACT", "EYE DISORDERS", "H26.9", 0.28),
    ("HYPOTHYROIDISM", "ENDOCRINE DISORDERS", "E03.9", 0.14),
    ("TYPE 2 DIABETES MELLITUS", "METABOLISM AND NUTRITION DISORDERS", "E11.9", 0.13),
    ("ATRIAL FIBRILLATION", "CARDIAC DISORDERS", "I48.91", 0.08),
    ("CORONARY ARTERY DISEASE", "CARDIAC DISORDERS", "I25.10", 0.13),
    ("GASTROOESOPHAGEAL REFLUX DISEASE", "GASTROINTESTINAL DISORDERS", "K21.9", 0.20),
    ("DEPRESSION", "PSYCHIATRIC DISORDERS", "F32.A", 0.18),
    ("HEARING LOSS", "EAR AND LABYRINTH DISORDERS", "H91.90", 0.24),
    ("OSTEOPOROSIS", "MUSCULOSKELETAL AND CONNECTIVE TISSUE DISORDERS", "M81.0", 0.16),
    ("GLAUCOMA", "EYE DISORDERS", "H40.9", 0.08),
    ("BREAST CANCER, PERSONAL HISTORY", "NEOPLASMS BENIGN, MALIGNANT AND UNSPECIFIED", "Z85.3", 0.03),
)
REASON_TEXT = {
    "WITHDRAWAL BY SUBJECT": ("PATIENT WITHDREW CONSENT", "CAREGIVER BURDEN", "TOO MANY VISITS",
                              "PATIENT REFUSES TO CONTINUE", "FAMILY WISHES TO DISCONTINUE",
                              "PATIENT IS MOVING"),
    "LOST TO FOLLOW-UP": ("UNABLE TO CONTACT PATIENT (LOST TO FOLLOW-UP)",),
    "LACK OF EFFICACY": ("LACK OF EFFICACY, PATIENT CAREGIVER PERCEPTION",),
    "PHYSICIAN DECISION": ("PATIENT NEEDS EXCLUDED MEDICATION", "PHYSICIAN DECISION"),
    "PROTOCOL VIOLATION": ("PROTOCOL ENTRY CRITERIA NOT MET", "PROTOCOL VIOLATION"),
    "COMPLETED": ("PROTOCOL COMPLETED",),
}
# fmt: on
